#pragma once

/// Float32 in memory as tiles of bfloat16 for AMX; for amx.cpp, which is compiled for it.

#include "gradients/amx_work.h"

// Vectors and the order of their numbers are those of the other kernels.
#define GRADIST_VECTOR_BYTES 64
#define GRADIST_TILE_ROWS 16
#include "gradients/kernel_vectors.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <vector>

namespace gradist::detail {
namespace {

using Floats = Vector<float>::Type;
typedef uint32_t Words __attribute__((vector_size(64)));

/// A tile is kTile rows of as many words: of float32, or of two bfloat16.
constexpr int64_t kTile = 16;
constexpr int64_t kTileWords = kTile * kTile;
constexpr int64_t kRowBytes = kTile * 4;
static_assert(kTile == kTileRows && kTile == Vector<float>::kLanes);

/// Positions of one product of tiles: half of them in the lower halves of words, half in the upper.
constexpr int64_t kStep = kAmxStep;
static_assert(kStep == 2 * kTile);

/// A block of C that is computed at once: one tile of rows, two of columns. A core with another
/// thread beside has few tiles to spare: with four tiles of sums it is twice as slow.
constexpr int64_t kRows = kTile, kColumns = 2 * kTile;
static_assert(kRows == kAmxRows && kColumns == kAmxColumns);

/// Parts of a float32, the largest first.
constexpr int64_t kParts = 3;

/// x = h + m + l, each a bfloat16 in the upper half of a word.
struct Parts {
  Words part[kParts];
};
Parts parts_of(Floats x) {
  // To nearest; what is left is exact, and its last part has no more than 8 bits.
  const auto rounded = [](Floats value) { return (Words(value) + 0x8000U) & 0xffff0000U; };
  const auto h = rounded(x);
  const auto rest = x - Floats(h);
  const auto m = rounded(rest);
  return {{h, m, Words(rest - Floats(m))}};
}

/// Tile instructions do not tell the compiler what memory they read: nothing stays to be written.
void written() { std::atomic_signal_fence(std::memory_order_seq_cst); }

/// Sums over positions of the numbers of a tile.
struct Sums {
  double numbers[kTile] = {};
};

int64_t divided_up(int64_t x, int64_t y) { return (x + y - 1) / y; }

/// A section of one side in tiles, [tile][step][part of a float32]. The words of a tile are
/// (number, position) for rows of C, and (position, number) for its columns.
template <bool kOfRows>
class Tiles {
 public:
  Tiles(const AmxSide& side, int64_t positions, int64_t numbers)
      : side_(side),
        words_(tiles_of(numbers) * divided_up(positions, kStep) * kParts * kTileWords,
               /*zeroed=*/false) {}

  const AmxSection& section() const { return section_; }

  /// Reads a section. Sums over positions to `sums`, where the numbers of the whole side have their
  /// places, unless that is null.
  void read(const AmxSection& section, float* sums) {
    section_ = section;
    steps_ = divided_up(section.positions, kStep);
    const auto count = tiles_of(section.end - section.begin);
    std::vector<Sums> totals(sums == nullptr ? 0 : static_cast<size_t>(count));
    Words lower{};
    for (int64_t k = 0; k < steps_; ++k) {
      for (int64_t t = 0; t < count; ++t) {
        auto* to = words_.get() + t * tile_words() + k * kParts * kTileWords;
        auto* total = totals.empty() ? nullptr : &totals[static_cast<size_t>(t)];
        const auto n = section_.begin + t * kTile;
        side_.number == 1 ? read_step<false>(n, k * kStep, total, to, lower)
                          : read_step<true>(n, k * kStep, total, to, lower);
      }
    }
    written();
    uint32_t any = 0;
    for (int64_t j = 0; j < kTile; ++j) {
      any |= lower[j];
    }
    are_bfloat16_ = any == 0;
    for (size_t t = 0; t < totals.size(); ++t) {
      const auto n = section_.begin + static_cast<int64_t>(t) * kTile;
      for (int64_t j = 0; j < std::min(kTile, section_.end - n); ++j) {
        sums[n + j] = static_cast<float>(totals[t].numbers[j]);
      }
    }
  }

  int64_t steps() const { return steps_; }
  const uint32_t* tile(int64_t t) const { return words_.get() + t * tile_words(); }

  /// Whether all numbers read are bfloat16, as under autocast.
  bool are_bfloat16() const { return are_bfloat16_; }

 private:
  /// A block has one of rows and two of columns.
  static int64_t tiles_of(int64_t numbers) {
    return kOfRows ? divided_up(numbers, kRows) : 2 * divided_up(numbers, kColumns);
  }
  int64_t tile_words() const { return steps_ * kParts * kTileWords; }

  /// A step of a tile from number `n` and position `s` on. In memory either positions are side by
  /// side, or numbers.
  template <bool kAlongPositions>
  void read_step(int64_t n, int64_t s, Sums* totals, uint32_t* to, Words& lower) const {
    const auto* from = side_.data + section_.example * side_.example +
                       (section_.position + s) * side_.position + n * side_.number;
    const auto line = kAlongPositions ? side_.number : side_.position;
    const auto half = kAlongPositions ? kTile : kTile * side_.position;
    const auto numbers = section_.end - n, positions = section_.positions - s;
    if (numbers >= kTile && positions >= kStep) {
      fetch<kAlongPositions>(
          [&](int64_t v, int64_t h) { return Vector<float>::load(from + v * line + h * half); },
          totals, to, lower);
    } else {
      fetch<kAlongPositions>(
          [&](int64_t v, int64_t h) {
            const auto lines = kAlongPositions ? numbers : positions - h * kTile;
            const auto width = kAlongPositions ? positions - h * kTile : numbers;
            return v < lines ? padded(from + v * line + h * half, width) : Floats{};
          },
          totals, to, lower);
    }
  }

  static Floats padded(const float* from, int64_t width) {
    Floats numbers{};
    if (width > 0) {
      std::memcpy(&numbers, from, static_cast<size_t>(std::min(width, kTile)) * sizeof(float));
    }
    return numbers;
  }

  /// From vectors load(v, half of the positions).
  template <bool kAlongPositions, typename Load>
  [[gnu::always_inline]] static void fetch(const Load& load, Sums* totals, uint32_t* to,
                                           Words& all_lower) {
    Words lower = all_lower;
    if constexpr (kOfRows != kAlongPositions) {
      Floats front[kTile], back[kTile];
#pragma GCC unroll 16
      for (int64_t v = 0; v < kTile; ++v) {
        front[v] = load(v, 0);
        back[v] = load(v, 1);
      }
      if (totals != nullptr) {
        add_up(front, back, *totals);
      }
      interleave<float>(front);
      interleave<float>(back);
#pragma GCC unroll 16
      for (int64_t v = 0; v < kTile; ++v) {
        store_words(front[v], back[v], to + v * kTile, lower);
      }
    } else {
#pragma GCC unroll 16
      for (int64_t v = 0; v < kTile; ++v) {
        store_words(load(v, 0), load(v, 1), to + v * kTile, lower);
      }
    }
    all_lower = lower;
  }

  [[gnu::always_inline]] static void store_words(Floats front, Floats back, uint32_t* to,
                                                 Words& lower) {
    const auto low = parts_of(front), high = parts_of(back);
#pragma GCC unroll 4
    for (int64_t part = 0; part < kParts; ++part) {
      const Words words = (low.part[part] >> 16) | high.part[part];
      std::memcpy(to + part * kTileWords, &words, sizeof words);
      if (part > 0) {
        lower |= words;
      }
    }
  }

  /// Of vectors of numbers.
  static void add_up(const Floats (&front)[kTile], const Floats (&back)[kTile], Sums& totals) {
    Floats sum{};
#pragma GCC unroll 16
    for (int64_t p = 0; p < kTile; ++p) {
      sum += front[p] + back[p];
    }
    for (int64_t j = 0; j < kTile; ++j) {
      totals.numbers[j] += static_cast<double>(sum[j]);
    }
  }

  AmxSide side_;
  AmxSection section_;
  int64_t steps_ = 0;
  Buffer<uint32_t> words_;
  bool are_bfloat16_ = false;  ///< all parts but the first are 0
};

}  // namespace
}  // namespace gradist::detail
