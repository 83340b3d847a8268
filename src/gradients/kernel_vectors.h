#pragma once

// What the kernels of one instruction set compute with: vectors, and memory for them. Included,
// with the kernels, by a source file each, which is compiled for it and defines
// GRADIST_VECTOR_BYTES and GRADIST_TILE_ROWS. Nothing may be shared between them, hence the unnamed
// namespace; no header of torch, whose inline functions would be.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

namespace gradist::detail {
namespace {

constexpr int64_t kTileRows = GRADIST_TILE_ROWS;

template <typename Scalar>
struct Vector {
  static constexpr int64_t kLanes = GRADIST_VECTOR_BYTES / sizeof(Scalar);
  typedef Scalar Type __attribute__((vector_size(GRADIST_VECTOR_BYTES)));
  typedef Scalar Unaligned
      __attribute__((vector_size(GRADIST_VECTOR_BYTES), aligned(sizeof(Scalar)), may_alias));
  typedef double Doubles
      __attribute__((vector_size(GRADIST_VECTOR_BYTES / sizeof(Scalar) * sizeof(double))));

  static Type load(const Scalar* from) { return *reinterpret_cast<const Unaligned*>(from); }
  static void store(Scalar* to, Type value) { *reinterpret_cast<Unaligned*>(to) = value; }
};

/// total[r][b] += row[r] x[b]. The first kReadAgain numbers of the row are read anew for every x:
/// AVX-512 multiplies by a number where it lies in memory, so that reading it again is no
/// instruction of its own; as many as the units that read have time for. The compiler is kept from
/// noticing that it is the same number.
template <size_t kReadAgain, typename Scalar, typename V, size_t kRows, size_t kBlocks>
[[gnu::always_inline]] inline void add_products(const Scalar* row, const V (&x)[kBlocks],
                                                V (&total)[kRows][kBlocks]) {
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t b = 0; b < kBlocks; ++b) {
      const auto* from = row;
      if (sizeof(V) == 64 && b > 0 && r < kReadAgain) {
        asm("" : "+r"(from));
      }
      total[r][b] += from[r] * x[b];
    }
  }
}

/// Calls `work` for 0 to `count`: two at a time, so that the loop itself takes half as many
/// instructions, where there are registers enough.
template <typename Work>
[[gnu::always_inline]] inline void in_steps(int64_t count, const Work& work) {
  int64_t step = 0;
  if (GRADIST_VECTOR_BYTES == 64) {
    for (; step + 2 <= count; step += 2) {
      work(step);
      work(step + 1);
    }
  }
  for (; step < count; ++step) {
    work(step);
  }
}

/// Memory aligned to a cache line, zeroed unless told otherwise.
template <typename Scalar>
class Buffer {
 public:
  explicit Buffer(int64_t numbers, bool zeroed = true) {
    const auto bytes = (static_cast<size_t>(numbers) * sizeof(Scalar) + 127) / 64 * 64;
    data_.reset(static_cast<Scalar*>(std::aligned_alloc(64, bytes)));
    if (zeroed) {
      std::memset(data_.get(), 0, bytes);
    }
  }
  Scalar* get() const { return data_.get(); }

 private:
  struct Free {
    void operator()(Scalar* memory) const { std::free(memory); }
  };
  std::unique_ptr<Scalar, Free> data_;
};

// ---- kTileRows sequences, one after the other, to one number of each in turn

template <typename V, size_t... Lane>
V zip_low(V first, V second, std::index_sequence<Lane...>) {
  return __builtin_shufflevector(first, second,
                                 static_cast<int>(Lane / 2 + (Lane % 2) * sizeof...(Lane))...);
}
template <typename V, size_t... Lane>
V zip_high(V first, V second, std::index_sequence<Lane...>) {
  return __builtin_shufflevector(
      first, second,
      static_cast<int>(Lane / 2 + sizeof...(Lane) / 2 + (Lane % 2) * sizeof...(Lane))...);
}

/// rows[r][l] for kTileRows registers -> the same numbers in order (l, r).
template <typename Scalar>
void interleave(typename Vector<Scalar>::Type (&rows)[kTileRows]) {
  using V = typename Vector<Scalar>::Type;
  constexpr auto kLanes = std::make_index_sequence<static_cast<size_t>(Vector<Scalar>::kLanes)>();
  // Runs of `run` registers hold sequences already zipped; zip run r with run r + half the runs.
  for (int64_t run = 1; run < kTileRows; run *= 2) {
    V zipped[kTileRows];
    const auto runs = kTileRows / run;
    for (int64_t r = 0; r < runs / 2; ++r) {
      for (int64_t k = 0; k < run; ++k) {
        const auto first = rows[r * run + k], second = rows[(r + runs / 2) * run + k];
        zipped[(r * run + k) * 2] = zip_low(first, second, kLanes);
        zipped[(r * run + k) * 2 + 1] = zip_high(first, second, kLanes);
      }
    }
    std::copy(zipped, zipped + kTileRows, rows);
  }
}

}  // namespace
}  // namespace gradist::detail
