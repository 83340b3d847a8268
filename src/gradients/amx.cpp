#include "gradients/amx_work.h"

#ifdef __AMX_BF16__

#include "gradients/amx_tiles.h"

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

namespace gradist::detail {
namespace {

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
class TileRegisters {
 public:
  TileRegisters() {
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
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

/// One thread.
class Worker {
 public:
  Worker(AmxWork& work, int64_t thread)
      : work_(work),
        thread_(thread),
        rows_(work.products.rows, work.most_positions(), work.most_rows()),
        columns_(work.products.columns, work.most_positions(), work.most_columns()) {}

  void run() {
    const TileRegisters registers;
    for (int64_t step = 0; step < work_.steps(); ++step) {
      // One thread tells the sums of the rows that all keep, even if others leave it nothing else.
      bool kept = thread_ == 0 && !work_.by_rows && work_.row_sums(step) != nullptr;
      if (kept) {
        rows_.read(work_.part(step), work_.row_sums(step));
      }
      for (int64_t group; (group = work_.take(step, thread_)) >= 0;) {
        if (!kept) {
          read_part(step);
          kept = true;
        }
        read_group(step, group);
        work_.wait(step, group);
        const bool bfloat16 = rows_.are_bfloat16() && columns_.are_bfloat16();
        const bool fresh = work_.is_first(step);
        work_.finish(step, group, bfloat16 ? multiply<true>(fresh) : multiply<false>(fresh));
      }
    }
  }

 private:
  void read_part(int64_t step) {
    if (work_.by_rows) {
      columns_.read(work_.part(step), nullptr);
    } else {
      rows_.read(work_.part(step), nullptr);
    }
  }
  void read_group(int64_t step, int64_t group) {
    if (work_.by_rows) {
      rows_.read(work_.group(step, group), work_.row_sums(step));
    } else {
      columns_.read(work_.group(step, group), nullptr);
    }
  }

  /// Multiplies what is read; returns the squares.
  template <bool kBfloat16>
  double multiply(bool fresh) {
    const auto& rows = rows_.section();
    const auto& columns = columns_.section();
    const auto& result = work_.result;
    const auto width = work_.products.columns.numbers;
    Finish former;
    for (int64_t t = 0; t < divided_up(rows.end - rows.begin, kRows); ++t) {
      for (int64_t b = 0; b < divided_up(columns.end - columns.begin, kColumns); ++b) {
        add_products<kBfloat16>(t, b, former);
        former.end();
        which_ = 1 - which_;
        store(blocks_[which_]);
        const auto row = rows.begin + t * kRows, column = columns.begin + b * kColumns;
        former.begin(blocks_[which_],
                     result.sum == nullptr ? nullptr : result.sum + row * width + column, width,
                     result.shift == nullptr ? nullptr : result.shift + column, fresh,
                     rows.end - row, columns.end - column);
      }
    }
    former.end();
    return former.squares();
  }

  /// Tiles 0 and 1 from scratch, while `former` finishes the block before.
  template <bool kBfloat16>
  [[gnu::always_inline]] void add_products(int64_t t, int64_t b, Finish& former) const {
    constexpr int64_t kTurns = kBfloat16 ? 1 : 6;
    const auto steps = rows_.steps();
    const auto rows_a_turn = divided_up(kRows, kTurns * steps);
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
    for (; step < steps; ++step) {
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

  AmxWork& work_;
  int64_t thread_;
  Tiles<true> rows_;
  Tiles<false> columns_;
  Block blocks_[2];
  int which_ = 0;
};

}  // namespace

void run_amx(AmxWork& work, int64_t thread) { Worker(work, thread).run(); }

}  // namespace gradist::detail

#else

#include <cstdlib>

namespace gradist::detail {

void run_amx(AmxWork&, int64_t) { std::abort(); }  // has_amx() is false in this build

}  // namespace gradist::detail

#endif
