#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace gradist::rf {

/// A matrix [count, width] whose rows begin at multiples of 64 bytes and are padded with zeros to
/// `stride`, a multiple of 16 numbers: what the kernels read.
template <class T>
class Rows {
 public:
  Rows() = default;
  Rows(int64_t count, int64_t width)
      : count_(count), width_(width), stride_((width + 15) / 16 * 16), numbers_(allocate()) {}

  int64_t count() const { return count_; }
  int64_t width() const { return width_; }
  int64_t stride() const { return stride_; }

  T* data() { return numbers_.get(); }
  const T* data() const { return numbers_.get(); }
  T* row(int64_t i) { return numbers_.get() + i * stride_; }
  const T* row(int64_t i) const { return numbers_.get() + i * stride_; }

  void fill_zero() { std::memset(data(), 0, bytes()); }

  Rows copy() const {
    Rows other(count_, width_);
    std::memcpy(other.data(), data(), bytes());
    return other;
  }

 private:
  struct Free {
    void operator()(T* numbers) const { std::free(numbers); }
  };

  size_t bytes() const { return static_cast<size_t>(count_ * stride_) * sizeof(T); }

  T* allocate() const {
    const size_t size = bytes() > 0 ? bytes() : 64;
    auto* numbers = static_cast<T*>(std::aligned_alloc(64, (size + 63) / 64 * 64));
    if (numbers == nullptr) {
      throw std::bad_alloc();
    }
    std::memset(numbers, 0, size);
    return numbers;
  }

  int64_t count_ = 0, width_ = 0, stride_ = 0;
  std::unique_ptr<T, Free> numbers_;
};

}  // namespace gradist::rf
