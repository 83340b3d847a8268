#pragma once

#include <array>
#include <cstdint>

namespace gradist::rf {

/// What random numbers of a seed are for; each purpose is a stream of its own.
enum class Stream : uint32_t {
  kInputs = 1,
  kTestInputs = 2,
  kTeacherFeatures = 3,
  kTeacherReadout = 4,
  kTeacherBias = 5,
  kStudentFeatures = 6,
  kReadout = 7,
  kEpochs = 8,
  kClustering = 9,
  kEstimates = 10
};

/// Philox4x32-10: four random words from a key and a counter, and nothing else. [Salmon11]
/// So every number has an address (seed, stream, row, column) and is the same whoever computes it,
/// in whatever order, on however many threads.
class Philox {
 public:
  Philox(uint64_t seed, Stream stream) : key_(seed), stream_(static_cast<uint32_t>(stream)) {}

  /// Words of the block at (row, column).
  std::array<uint32_t, 4> operator()(uint32_t row, uint32_t column) const {
    std::array<uint32_t, 4> c = {column, row, stream_, 0};
    auto k0 = static_cast<uint32_t>(key_);
    auto k1 = static_cast<uint32_t>(key_ >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
      const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
      c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
           static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
      k0 += 0x9E3779B9;
      k1 += 0xBB67AE85;
    }
    return c;
  }

  uint64_t key() const { return key_; }
  uint32_t stream() const { return stream_; }

 private:
  uint64_t key_;
  uint32_t stream_;
};

/// The blocks (row, 0), (row, 1), ... of a Philox as a sequence.
class Words {
 public:
  Words(const Philox& philox, uint32_t row) : philox_(philox), row_(row) {}

  uint32_t next() {
    if (used_ == 4) {
      block_ = philox_(row_, column_++);
      used_ = 0;
    }
    return block_[used_++];
  }

  /// Uniform in [0, 1), 53 bits.
  double uniform() {
    const uint64_t high = next() >> 5;
    const uint64_t low = next() >> 6;
    return static_cast<double>((high << 26) | low) * 0x1p-53;
  }

  /// Uniform in [0, limit), without bias: rejection as in [Lemire19].
  uint32_t below(uint32_t limit) {
    uint64_t product = uint64_t{next()} * limit;
    const uint32_t least = (0U - limit) % limit;
    while (static_cast<uint32_t>(product) < least) {
      product = uint64_t{next()} * limit;
    }
    return static_cast<uint32_t>(product >> 32);
  }

 private:
  Philox philox_;
  uint32_t row_;
  uint32_t column_ = 0;
  std::array<uint32_t, 4> block_ = {};
  size_t used_ = 4;
};

}  // namespace gradist::rf
