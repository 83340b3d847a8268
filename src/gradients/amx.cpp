#include "gradients/amx.h"

#ifdef __AMX_BF16__

// Vectors and the order of their numbers are those of the other kernels.
#define GRADIST_VECTOR_BYTES 64
#define GRADIST_TILE_ROWS 16
#include "gradients/kernel_vectors.h"

#include <immintrin.h>

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
constexpr int64_t kStep = 2 * kTile;

/// A block of C that is computed at once: one tile of rows, two of columns. A core with another
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

/// Tile instructions do not tell the compiler what memory they read: nothing stays to be written.
void written() { std::atomic_signal_fence(std::memory_order_seq_cst); }

/// Sums over positions of the numbers of a tile.
struct Sums {
  double numbers[kTile] = {};
};

/// Tiles of one side of the products: [tile][step][part]. The words of a tile are (number,
/// position) for rows of C, and (position, number) for its columns.
template <bool kOfRows>
class Side {
 public:
  /// Of the numbers [begin, end), so many tiles at a time.
  Side(const AmxSide& side, int64_t positions, int64_t begin, int64_t end, int64_t tiles)
      : side_(side),
        positions_(positions),
        steps_((positions + kStep - 1) / kStep),
        begin_(begin),
        end_(end),
        words_(tiles * tile_words(), /*zeroed=*/false) {}

  /// Fetches `count` tiles of an example from its tile `first` on. Sums over positions to `sums`
  /// [end - begin], unless that is null.
  void read(int64_t example, int64_t first, int64_t count, float* sums) {
    lower_ = Words{};
    std::vector<Sums> totals(sums == nullptr ? 0 : static_cast<size_t>(count));
    for (int64_t k = 0; k < steps_; ++k) {
      for (int64_t t = 0; t < count; ++t) {
        auto* to = words_.get() + t * tile_words() + k * kParts * kTileWords;
        auto* total = totals.empty() ? nullptr : &totals[static_cast<size_t>(t)];
        if (side_.number == 1) {
          read_step<false>(example, begin_ + (first + t) * kTile, k * kStep, total, to);
        } else {
          read_step<true>(example, begin_ + (first + t) * kTile, k * kStep, total, to);
        }
      }
    }
    written();
    for (size_t t = 0; t < totals.size(); ++t) {
      const auto at = (first + static_cast<int64_t>(t)) * kTile;
      for (int64_t j = 0; j < std::min(kTile, end_ - begin_ - at); ++j) {
        sums[at + j] = static_cast<float>(totals[t].numbers[j]);
      }
    }
  }

  int64_t steps() const { return steps_; }
  const uint32_t* tile(int64_t t) const { return words_.get() + t * tile_words(); }

  /// Whether all numbers read are bfloat16, as under autocast.
  bool is_bfloat16() const {
    uint32_t any = 0;
    for (int64_t j = 0; j < kTile; ++j) {
      any |= lower_[j];
    }
    return any == 0;
  }

 private:
  int64_t tile_words() const { return steps_ * kParts * kTileWords; }

  /// A step of a tile from number `n` and position `s` on. In memory either positions are side by
  /// side, or numbers.
  template <bool kAlongPositions>
  void read_step(int64_t example, int64_t n, int64_t s, Sums* totals, uint32_t* to) {
    const auto* from = side_.data + example * side_.example + s * side_.position + n * side_.number;
    const auto line = kAlongPositions ? side_.number : side_.position;
    const auto half = kAlongPositions ? kTile : kTile * side_.position;
    const auto numbers = end_ - n, positions = positions_ - s;
    if (numbers >= kTile && positions >= kStep) {
      fetch<kAlongPositions>(
          [&](int64_t v, int64_t h) { return Vector<float>::load(from + v * line + h * half); },
          totals, to);
    } else {
      fetch<kAlongPositions>(
          [&](int64_t v, int64_t h) {
            const auto lines = kAlongPositions ? numbers : positions - h * kTile;
            const auto width = kAlongPositions ? positions - h * kTile : numbers;
            return v < lines ? padded(from + v * line + h * half, width) : Floats{};
          },
          totals, to);
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
  [[gnu::always_inline]] void fetch(const Load& load, Sums* totals, uint32_t* to) {
    Words lower = lower_;
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
  int64_t positions_, steps_, begin_, end_;
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
  /// The block's part of the sum, or null, starts at `sum`, and that of the shift, or null, at
  /// `shift`; beyond so many rows and columns there is none. A fresh sum has no former value.
  void begin(const Block& block, float* sum, int64_t stride, const float* shift, bool fresh,
             int64_t rows, int64_t columns) {
    block_ = block.numbers;
    sum_ = sum;
    stride_ = stride;
    // The former value is the shift, which is the same for every row, or what is there.
    fresh_ = fresh && shift == nullptr;
    shift_ = fresh ? shift : nullptr;
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
      const auto* former = shift_ == nullptr ? to : shift_;
      if (columns_ == kColumns) {
        Vector<float>::store(to, fresh_ ? left : Vector<float>::load(former) + left);
        Vector<float>::store(to + kTile,
                             fresh_ ? right : Vector<float>::load(former + kTile) + right);
      } else {
        for (int64_t j = 0; j < columns_; ++j) {
          to[j] = fresh_ ? g[j] : former[j] + g[j];
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
  const float *block_ = nullptr, *shift_ = nullptr;
  float* sum_ = nullptr;
  int64_t stride_ = 0, row_ = 0, rows_ = 0, columns_ = 0;
  bool fresh_ = false;
  Floats squares_{};  ///< of this block
  Vector<float>::Doubles total_{};
};

/// The processor's tiles, all whole, while this lives: 0 and 1 a block of C, 2 of its rows, 3 and
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
    written();
    _tile_loadconfig(&configuration);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

/// Tiles of rows that are fetched together: they share cache lines.
constexpr int64_t kRowTilesTogether = 4;

class AmxMultiplier {
 public:
  AmxMultiplier(const AmxProducts& products, const CoordinateRange& range, const AmxResult& result)
      : range_(range),
        result_(result),
        examples_(products.examples),
        rows_in_all_(products.rows.numbers),
        columns_in_all_(products.columns.numbers),
        row_tiles_((range.row_end - range.row_begin + kRows - 1) / kRows),
        blocks_across_((range.column_end - range.column_begin + kColumns - 1) / kColumns),
        rows_(products.rows, products.positions, range.row_begin, range.row_end,
              std::min(kRowTilesTogether, row_tiles_)),
        columns_(products.columns, products.positions, range.column_begin, range.column_end,
                 2 * blocks_across_) {}

  void run() {
    const Tiles tiles;
    for (int64_t i = 0; i < examples_; ++i) {
      const auto squares = multiply(i);
      if (result_.squared_norms != nullptr) {
        result_.squared_norms[i] += squares;
      }
    }
  }

 private:
  /// An example's part of C; returns its squares. Columns are in tiles as a whole, in L2; rows a
  /// few tiles at a time, of which one is in L1.
  double multiply(int64_t example) {
    auto* sums = result_.row_sums == nullptr
                     ? nullptr
                     : result_.row_sums + example * rows_in_all_ + range_.row_begin;
    columns_.read(example, 0, 2 * blocks_across_, nullptr);
    Finish former;
    for (int64_t first = 0; first < row_tiles_; first += kRowTilesTogether) {
      const auto count = std::min(kRowTilesTogether, row_tiles_ - first);
      rows_.read(example, first, count, sums);
      const bool bfloat16 = rows_.is_bfloat16() && columns_.is_bfloat16();
      for (int64_t t = 0; t < count; ++t) {
        const auto row = range_.row_begin + (first + t) * kRows;
        const bool fresh = result_.fresh && example == 0;
        bfloat16 ? row_of_blocks<true>(t, row, fresh, former)
                 : row_of_blocks<false>(t, row, fresh, former);
      }
    }
    former.end();
    return former.squares();
  }

  template <bool kBfloat16>
  void row_of_blocks(int64_t t, int64_t row, bool fresh, Finish& former) {
    for (int64_t b = 0; b < blocks_across_; ++b) {
      add_products<kBfloat16>(t, b, former);
      former.end();
      which_ = 1 - which_;
      store(blocks_[which_]);
      const auto column = range_.column_begin + b * kColumns;
      former.begin(blocks_[which_],
                   result_.sum == nullptr ? nullptr : result_.sum + row * columns_in_all_ + column,
                   columns_in_all_, result_.shift == nullptr ? nullptr : result_.shift + column,
                   fresh, range_.row_end - row, range_.column_end - column);
    }
  }

  /// Tiles 0 and 1 from scratch, while `former` finishes the block before.
  template <bool kBfloat16>
  [[gnu::always_inline]] void add_products(int64_t t, int64_t b, Finish& former) const {
    constexpr int64_t kTurns = kBfloat16 ? 1 : 6;
    const auto rows_a_turn = (kRows + kTurns * rows_.steps() - 1) / (kTurns * rows_.steps());
    const auto* rows = rows_.tile(t);
    const auto *left = columns_.tile(2 * b), *right = columns_.tile(2 * b + 1);
    int64_t step = 0;
    const auto load_rows = [&](int64_t part) __attribute__((always_inline)) {
      _tile_loadd(2, rows + (step * kParts + part) * kTileWords, kRowBytes);
    };
    const auto load_columns = [&](int64_t part) __attribute__((always_inline)) {
      _tile_loadd(3, left + (step * kParts + part) * kTileWords, kRowBytes);
      _tile_loadd(4, right + (step * kParts + part) * kTileWords, kRowBytes);
    };
    const auto multiply_tiles = [&]() __attribute__((always_inline)) {
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
      multiply_tiles();
      if constexpr (!kBfloat16) {  // from product to product one side changes
        load_columns(m);
        multiply_tiles();
        load_rows(m);
        multiply_tiles();
        load_columns(h);
        multiply_tiles();
        load_rows(h);
        multiply_tiles();
        load_rows(l);
        multiply_tiles();
      }
    }
  }

  static void store(Block& block) {
    _tile_stored(0, block.numbers, kColumns * 4);
    _tile_stored(1, block.numbers + kTile, kColumns * 4);
  }

  CoordinateRange range_;
  AmxResult result_;
  int64_t examples_, rows_in_all_, columns_in_all_, row_tiles_, blocks_across_;
  Side<true> rows_;
  Side<false> columns_;
  Block blocks_[2];
  int which_ = 0;
};

}  // namespace

void multiply_by_amx(const AmxProducts& products, const CoordinateRange& range,
                     const AmxResult& result) {
  AmxMultiplier(products, range, result).run();
}

}  // namespace gradist::detail

#else

#include <cstdlib>

namespace gradist::detail {

void multiply_by_amx(const AmxProducts&, const CoordinateRange&, const AmxResult&) {
  std::abort();  // has_amx() is false in this build
}

}  // namespace gradist::detail

#endif
