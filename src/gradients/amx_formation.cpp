#include "gradients/formation.h"

#ifdef __AMX_BF16__

// Vectors and the order of their numbers are those of the other kernels.
#define GRADIST_VECTOR_BYTES 64
#define GRADIST_TILE_ROWS 16
#include "gradients/formation_kernel.h"

#include <immintrin.h>

#include <algorithm>
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
constexpr int64_t kStep = 2 * kTile;

/// A block of g_i, that is formed at once: one tile of rows, two of columns. A core with another
/// thread beside has few tiles to spare: with four tiles of sums it is twice as slow.
constexpr int64_t kRows = kAmxTile.rows, kColumns = kAmxTile.columns;
static_assert(kRows == kTile && kColumns == 2 * kTile);

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

/// Sums over positions of the numbers of a tile.
struct Sums {
  double numbers[kTile] = {};
};

/// One side of the products, an example at a time: tiles [numbers / kTile][step][part]. The words
/// of a tile are (number, position) for the rows of g_i, and (position, number) for its columns.
template <bool kOfRows>
class Side {
  static constexpr int64_t kBlock = kOfRows ? kRows : kColumns;

 public:
  Side(const PositionSide<float>& side, int64_t positions, int64_t begin, int64_t end)
      : side_(side),
        positions_(positions),
        steps_((positions + kStep - 1) / kStep),
        begin_(begin),
        end_(end),
        tiles_((end - begin + kBlock - 1) / kBlock * (kBlock / kTile)),
        words_(tiles_ * tile_words(), /*zeroed=*/false) {}

  /// Fetches an example, and its sums over positions to `sums` [end - begin] unless that is null.
  void read(int64_t example, float* sums) {
    lower_ = Words{};
    std::vector<Sums> totals(sums == nullptr ? 0 : static_cast<size_t>(tiles_));
    for (int64_t k = 0; k < steps_; ++k) {
      for (int64_t t = 0; t < tiles_; ++t) {
        read_step(example, t, k, totals.empty() ? nullptr : &totals[static_cast<size_t>(t)]);
      }
    }
    for (int64_t j = 0; sums != nullptr && j < end_ - begin_; ++j) {
      sums[j] = static_cast<float>(totals[static_cast<size_t>(j / kTile)].numbers[j % kTile]);
    }
  }

  int64_t steps() const { return steps_; }
  int64_t tiles() const { return tiles_; }
  const uint32_t* tile(int64_t t) const { return words_.get() + t * tile_words(); }

  /// Whether all numbers of the example are bfloat16, as under autocast.
  bool is_bfloat16() const {
    uint32_t any = 0;
    for (int64_t j = 0; j < kTile; ++j) {
      any |= lower_[j];
    }
    return any == 0;
  }

 private:
  int64_t tile_words() const { return steps_ * kParts * kTileWords; }

  void read_step(int64_t example, int64_t t, int64_t k, Sums* totals) {
    const auto first = begin_ + t * kTile;
    const auto* from = side_.data + example * side_.example + first;
    auto* to = words_.get() + t * tile_words() + k * kParts * kTileWords;
    if (first + kTile <= end_ && (k + 1) * kStep <= positions_) {
      from += k * kStep * side_.position;
      const auto step = side_.position;
      fetch([&](int64_t p) { return Vector<float>::load(from + p * step); }, totals, to);
    } else {
      fetch([&](int64_t p) { return padded(from, k * kStep + p, end_ - first); }, totals, to);
    }
  }

  /// A step of a tile, whose numbers at position p are `load(p)`, to its words.
  template <typename Load>
  [[gnu::always_inline]] void fetch(const Load& load, Sums* totals, uint32_t* to) {
    Words lower = lower_;
    if constexpr (kOfRows) {
      Floats front[kTile], back[kTile];  // the two halves of the positions
#pragma GCC unroll 16
      for (int64_t p = 0; p < kTile; ++p) {
        front[p] = load(p);
        back[p] = load(p + kTile);
      }
      if (totals != nullptr) {
        add_up(front, back, *totals);
      }
      interleave<float>(front);
      interleave<float>(back);
#pragma GCC unroll 16
      for (int64_t row = 0; row < kTile; ++row) {
        store_words(front[row], back[row], to + row * kTile, lower);
      }
    } else {
#pragma GCC unroll 16
      for (int64_t row = 0; row < kTile; ++row) {
        store_words(load(row), load(row + kTile), to + row * kTile, lower);
      }
    }
    lower_ = lower;
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

  /// Numbers at a position; 0 beyond `width` and beyond the positions.
  Floats padded(const float* from, int64_t position, int64_t width) const {
    Floats numbers{};
    if (position < positions_ && width > 0) {
      std::memcpy(&numbers, from + position * side_.position,
                  static_cast<size_t>(std::min(width, kTile)) * sizeof(float));
    }
    return numbers;
  }

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

  PositionSide<float> side_;
  int64_t positions_, steps_, begin_, end_, tiles_;
  Buffer<uint32_t> words_;
  Words lower_{};  ///< all parts but the first, or'ed
};

/// Row by row.
struct alignas(64) Block {
  float numbers[kRows * kColumns];
};

/// Squares a block and adds it to the sum, a few rows at a time: while tiles multiply, vectors are
/// free.
class Finish {
 public:
  /// The block's part of the sum, or null, starts at `sum`; beyond so many rows and columns there
  /// is none.
  void begin(const Block& block, float* sum, int64_t stride, bool fresh, int64_t rows,
             int64_t columns) {
    block_ = block.numbers;
    sum_ = sum;
    stride_ = stride;
    fresh_ = fresh;
    row_ = 0;
    rows_ = std::min(rows, kRows);
    columns_ = std::min(columns, kColumns);
  }

  [[gnu::always_inline]] void rows(int64_t count) {
    for (const auto end = std::min(row_ + count, rows_); row_ < end; ++row_) {
      const auto* g = block_ + row_ * kColumns;
      const auto left = Vector<float>::load(g), right = Vector<float>::load(g + kTile);
      squares_ += left * left + right * right;
      if (sum_ == nullptr) {
        continue;
      }
      auto* to = sum_ + row_ * stride_;
      if (columns_ == kColumns) {
        Vector<float>::store(to, fresh_ ? left : Vector<float>::load(to) + left);
        Vector<float>::store(to + kTile, fresh_ ? right : Vector<float>::load(to + kTile) + right);
      } else {
        for (int64_t j = 0; j < columns_; ++j) {
          to[j] = fresh_ ? g[j] : to[j] + g[j];
        }
      }
    }
  }

  /// The rows that are left.
  void end() {
    rows(kRows);
    total_ += __builtin_convertvector(squares_, Vector<float>::Doubles);
    squares_ = Floats{};
  }

  /// The squares of all blocks.
  double squares() const {
    double sum = 0;
    for (int64_t j = 0; j < kTile; ++j) {
      sum += total_[j];
    }
    return sum;
  }

 private:
  const float* block_ = nullptr;
  float* sum_ = nullptr;
  int64_t stride_ = 0, row_ = 0, rows_ = 0, columns_ = 0;
  bool fresh_ = false;
  Floats squares_{};  ///< of this block
  Vector<float>::Doubles total_{};
};

/// The processor's tiles, all whole, while this lives: 0 and 1 a block of g_i, 2 of its rows, 3 and
/// 4 of its columns.
class Tiles {
 public:
  Tiles() {
    struct alignas(64) {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {};
      uint8_t rows[16] = {};
    } configuration;
    constexpr int kUsed = 5;
    std::fill_n(configuration.row_bytes, kUsed, static_cast<uint16_t>(kRowBytes));
    std::fill_n(configuration.rows, kUsed, static_cast<uint8_t>(kTile));
    _tile_loadconfig(&configuration);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

class AmxFormer {
 public:
  AmxFormer(const PositionFormation<float>& formation, const CoordinateRange& range,
            const PositionResult<float>& result)
      : range_(range),
        result_(result),
        examples_(formation.examples),
        outputs_(formation.backprops.numbers),
        inputs_(formation.activations.numbers),
        rows_(formation.backprops, formation.positions, range.row_begin, range.row_end),
        columns_(formation.activations, formation.positions, range.column_begin, range.column_end) {
  }

  void run() {
    const Tiles tiles;
    for (int64_t i = 0; i < examples_; ++i) {
      rows_.read(i, result_.backprop_sums == nullptr
                        ? nullptr
                        : result_.backprop_sums + i * outputs_ + range_.row_begin);
      columns_.read(i, nullptr);
      const bool fresh = result_.fresh && i == 0;
      result_.squared_norms[i] +=
          rows_.is_bfloat16() && columns_.is_bfloat16() ? form<true>(fresh) : form<false>(fresh);
    }
  }

 private:
  /// Forms an example's part of g_i; returns its squares.
  template <bool kBfloat16>
  double form(bool fresh) {
    Finish former;
    int which = 0;
    for (int64_t r = 0; r < rows_.tiles(); ++r) {
      for (int64_t c = 0; c < columns_.tiles(); c += 2) {
        multiply<kBfloat16>(r, c, former);
        former.end();
        which = 1 - which;
        store(blocks_[which]);
        const auto row = range_.row_begin + r * kTile, column = range_.column_begin + c * kTile;
        auto* sum = result_.sum == nullptr ? nullptr : result_.sum + row * inputs_ + column;
        former.begin(blocks_[which], sum, inputs_, fresh, range_.row_end - row,
                     range_.column_end - column);
      }
    }
    former.end();
    return former.squares();
  }

  /// Tiles 0 and 1 from scratch, while `former` finishes the block before.
  template <bool kBfloat16>
  [[gnu::always_inline]] void multiply(int64_t r, int64_t c, Finish& former) const {
    constexpr int64_t kTurns = kBfloat16 ? 1 : 6;
    const auto rows_a_turn = (kRows + kTurns * rows_.steps() - 1) / (kTurns * rows_.steps());
    const auto* rows = rows_.tile(r);
    const auto *left = columns_.tile(c), *right = columns_.tile(c + 1);
    int64_t step = 0;
    const auto load_rows = [&](int64_t part) __attribute__((always_inline)) {
      _tile_loadd(2, rows + (step * kParts + part) * kTileWords, kRowBytes);
    };
    const auto load_columns = [&](int64_t part) __attribute__((always_inline)) {
      _tile_loadd(3, left + (step * kParts + part) * kTileWords, kRowBytes);
      _tile_loadd(4, right + (step * kParts + part) * kTileWords, kRowBytes);
    };
    const auto add_products = [&]() __attribute__((always_inline)) {
      _tile_dpbf16ps(0, 2, 3);
      _tile_dpbf16ps(1, 2, 4);
      former.rows(rows_a_turn);
    };
    _tile_zero(0);
    _tile_zero(1);
    for (; step < rows_.steps(); ++step) {
      constexpr int64_t h = 0, m = 1, l = 2;
      load_rows(h);
      load_columns(kBfloat16 ? h : l);
      add_products();
      if constexpr (!kBfloat16) {  // from product to product one side changes
        load_columns(m);
        add_products();
        load_rows(m);
        add_products();
        load_columns(h);
        add_products();
        load_rows(h);
        add_products();
        load_rows(l);
        add_products();
      }
    }
  }

  static void store(Block& block) {
    _tile_stored(0, block.numbers, kColumns * 4);
    _tile_stored(1, block.numbers + kTile, kColumns * 4);
  }

  CoordinateRange range_;
  PositionResult<float> result_;
  int64_t examples_, outputs_, inputs_;
  Side<true> rows_;      ///< of d
  Side<false> columns_;  ///< of a
  Block blocks_[2];
};

}  // namespace

void form_positions_amx(const PositionFormation<float>& formation, const CoordinateRange& range,
                        const PositionResult<float>& result) {
  AmxFormer(formation, range, result).run();
}

}  // namespace gradist::detail

#else

#include <cstdlib>

namespace gradist::detail {

void form_positions_amx(const PositionFormation<float>&, const CoordinateRange&,
                        const PositionResult<float>&) {
  std::abort();  // has_amx() is false in this build
}

}  // namespace gradist::detail

#endif
