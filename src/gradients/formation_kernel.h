#pragma once

// The kernel of formation.h for one instruction set: included by a source file each, which is
// compiled for it and defines GRADIST_VECTOR_BYTES and GRADIST_TILE_ROWS. Nothing here may be
// shared between them, hence the unnamed namespace; no header of torch, whose inline functions
// would be.

#include "gradients/formation.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace gradist::detail {
namespace {

constexpr int64_t kTileRows = GRADIST_TILE_ROWS;
constexpr int kTileBlocks = 3;

/// Positions summed in registers before they join the sum of the former ones.
constexpr int64_t kBlockedPositions = 2048;

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

/// Where position p of a plane goes: row by row, with a step between rows.
struct Walk {
  int64_t columns, column_step, row_step;
  int64_t column = 0, offset = 0;

  int64_t next() {
    const auto here = offset;
    offset += column_step;
    if (++column == columns) {
      column = 0;
      offset += row_step - columns * column_step;
    }
    return here;
  }
};

/// Copies kTileRows channels of an example (fewer at the end) so that they lie side by side at
/// every position: to[walk + c].
template <typename Scalar>
void gather_channels(const FormationSide<Scalar>& side, const Scalar* from, int64_t first,
                     Scalar* to, Walk walk) {
  const auto width = std::min(kTileRows, side.channels - first);
  const auto* start = from + first * side.channel;
  if (side.channel == 1) {
    for (int64_t h = 0; h < side.rows; ++h) {
      for (int64_t w = 0; w < side.columns; ++w) {
        const auto* numbers = start + h * side.row + w * side.column;
        auto* there = to + walk.next();
        if (width == kTileRows) {
          std::memcpy(there, numbers, kTileRows * sizeof(Scalar));
        } else {
          std::copy(numbers, numbers + width, there);
        }
      }
    }
    return;
  }
  constexpr auto kLanes = Vector<Scalar>::kLanes;
  const bool plane = side.column == 1 && (side.rows == 1 || side.row == side.columns);
  const auto positions = side.rows * side.columns;
  int64_t p = 0;
  if (plane && width == kTileRows) {
    for (; p + kLanes <= positions; p += kLanes) {
      typename Vector<Scalar>::Type rows[kTileRows];
      for (int64_t c = 0; c < kTileRows; ++c) {
        rows[c] = Vector<Scalar>::load(start + c * side.channel + p);
      }
      interleave<Scalar>(rows);
      const auto* numbers = reinterpret_cast<const Scalar*>(rows);
      for (int64_t l = 0; l < kLanes; ++l) {
        std::memcpy(to + walk.next(), numbers + l * kTileRows, kTileRows * sizeof(Scalar));
      }
    }
  }
  for (; p < positions; ++p) {
    const auto* numbers = start + p / side.columns * side.row + p % side.columns * side.column;
    auto* there = to + walk.next();
    for (int64_t c = 0; c < width; ++c) {
      there[c] = numbers[c * side.channel];
    }
  }
}

/// One register of columns of g: where its inputs start, relative to those of (u, v) = (0, 0) at
/// the first position, and how many lanes are used.
struct ColumnBlock {
  int64_t offset, width, column;
};

template <typename Scalar>
class Former {
  using V = typename Vector<Scalar>::Type;
  static constexpr int64_t kLanes = Vector<Scalar>::kLanes;

 public:
  explicit Former(const Formation<Scalar>& formation)
      : f_(formation),
        positions_(f_.backprops.rows * f_.backprops.columns),
        tiles_((f_.backprops.channels + kTileRows - 1) / kTileRows),
        padded_columns_(f_.input.columns + 2 * f_.padding[1]),
        padded_rows_(f_.input.rows + 2 * f_.padding[0]),
        channels_(f_.input.channels),
        columns_(f_.kernel_rows * f_.kernel_columns * channels_),
        backprops_(tiles_ * positions_ * kTileRows),
        input_(padded_rows_ * padded_columns_ * channels_ + kTileBlocks * kLanes) {
    make_blocks();
  }

  void run(int64_t begin, int64_t end, const FormationResult<Scalar>& result) {
    const auto blocks = static_cast<int64_t>(blocks_.size());
    Buffer<Scalar> sum(tiles_ * kTileRows * blocks * kLanes);
    for (int64_t i = begin; i < end; ++i) {
      read(i);
      double squares = 0;
      auto* formed =
          result.formed == nullptr ? nullptr : result.formed + (i - begin) * f_.coordinates();
      for (int64_t first = 0; first < blocks; first += kTileBlocks) {
        switch (std::min<int64_t>(kTileBlocks, blocks - first)) {
          case 1:
            squares += column_tile<1>(first, sum.get(), formed);
            break;
          case 2:
            squares += column_tile<2>(first, sum.get(), formed);
            break;
          default:
            squares += column_tile<3>(first, sum.get(), formed);
        }
      }
      if (result.squared_norms != nullptr) {
        result.squared_norms[i] = squares;
      }
    }
    if (result.sum != nullptr) {
      add_sum(sum.get(), result.sum);
    }
  }

 private:
  void make_blocks() {
    // Inputs of neighbouring kernel columns lie side by side, unless dilated.
    const bool joined = f_.dilation[1] == 1;
    const auto width = joined ? f_.kernel_columns * channels_ : channels_;
    for (int64_t u = 0; u < f_.kernel_rows; ++u) {
      for (int64_t v = 0; v < (joined ? 1 : f_.kernel_columns); ++v) {
        const auto start = (u * f_.dilation[0] * padded_columns_ + v * f_.dilation[1]) * channels_;
        const auto column = (u * f_.kernel_columns + v) * channels_;
        for (int64_t c = 0; c < width; c += kLanes) {
          blocks_.push_back({start + c, std::min(kLanes, width - c), column + c});
        }
      }
    }
  }

  /// Brings an example's backprops into tiles of outputs [tile][position][kTileRows] and its inputs
  /// into a padded plane [row][column][channel].
  void read(int64_t example) {
    const auto& d = f_.backprops;
    for (int64_t t = 0; t < tiles_; ++t) {
      gather_channels(d, d.data + example * d.example, t * kTileRows,
                      backprops_.get() + t * positions_ * kTileRows,
                      {d.columns, kTileRows, d.columns * kTileRows});
    }
    const auto& x = f_.input;
    const auto* from = x.data + example * x.example;
    auto* origin = input_.get() + (f_.padding[0] * padded_columns_ + f_.padding[1]) * channels_;
    if (x.channel == 1 && x.column == channels_) {
      for (int64_t h = 0; h < x.rows; ++h) {
        std::memcpy(origin + h * padded_columns_ * channels_, from + h * x.row,
                    static_cast<size_t>(x.columns * channels_) * sizeof(Scalar));
      }
      return;
    }
    for (int64_t c = 0; c < channels_; c += kTileRows) {
      gather_channels(x, from, c, origin + c, {x.columns, channels_, padded_columns_ * channels_});
    }
  }

  /// kBlocks registers of columns, all outputs; returns the sum of squares.
  template <int kBlocks>
  double column_tile(int64_t first, Scalar* sum, Scalar* formed) {
    double squares = 0;
    for (int64_t t = 0; t < tiles_; ++t) {
      V tile[kTileRows][kBlocks];
      products<kBlocks>(first, backprops_.get() + t * positions_ * kTileRows, tile);
      V square{};
      for (int b = 0; b < kBlocks; ++b) {
        const auto& block = blocks_[static_cast<size_t>(first + b)];
        const bool whole = block.width == kLanes;
        for (int64_t r = 0; r < kTileRows; ++r) {
          V value = tile[r][b];
          if (!whole) {
            for (int64_t l = block.width; l < kLanes; ++l) {
              value[l] = 0;
            }
          }
          square += value * value;
          auto* total = sum + (((first + b) * tiles_ + t) * kTileRows + r) * kLanes;
          Vector<Scalar>::store(total, Vector<Scalar>::load(total) + value);
          if (formed != nullptr && t * kTileRows + r < f_.backprops.channels) {
            auto* to = formed + (t * kTileRows + r) * columns_ + block.column;
            if (whole) {
              Vector<Scalar>::store(to, value);
            } else {
              std::memcpy(to, &value, static_cast<size_t>(block.width) * sizeof(Scalar));
            }
          }
        }
      }
      for (int64_t l = 0; l < kLanes; ++l) {
        squares += static_cast<double>(square[l]);
      }
    }
    return squares;
  }

  /// The sums over positions of one tile.
  template <int kBlocks>
  void products(int64_t first, const Scalar* backprops, V (&tile)[kTileRows][kBlocks]) {
    const auto& d = f_.backprops;
    const auto row_step = f_.stride[0] * padded_columns_ * channels_;
    const auto column_step = f_.stride[1] * channels_;
    const auto columns_at_once = std::min(d.columns, kBlockedPositions);
    const auto rows_at_once = std::max<int64_t>(1, kBlockedPositions / d.columns);
    bool started = false;
    for (int64_t h0 = 0; h0 < d.rows; h0 += rows_at_once) {
      for (int64_t w0 = 0; w0 < d.columns; w0 += columns_at_once) {
        const auto rows = std::min(rows_at_once, d.rows - h0);
        const auto columns = std::min(columns_at_once, d.columns - w0);
        const Scalar* inputs[kBlocks];
        for (int b = 0; b < kBlocks; ++b) {
          inputs[b] = input_.get() + blocks_[static_cast<size_t>(first + b)].offset +
                      h0 * row_step + w0 * column_step;
        }
        V part[kTileRows][kBlocks] = {};
        block_of_positions<kBlocks>(backprops + (h0 * d.columns + w0) * kTileRows, d.columns,
                                    inputs, rows, columns, row_step, column_step, part);
        for (int64_t r = 0; r < kTileRows; ++r) {
          for (int b = 0; b < kBlocks; ++b) {
            tile[r][b] = started ? tile[r][b] + part[r][b] : part[r][b];
          }
        }
        started = true;
      }
    }
    if (!started) {
      std::memset(tile, 0, sizeof tile);
    }
  }

  template <int kBlocks>
  static void block_of_positions(const Scalar* backprops, int64_t all_columns,
                                 const Scalar* const (&inputs)[kBlocks], int64_t rows,
                                 int64_t columns, int64_t row_step, int64_t column_step,
                                 V (&tile)[kTileRows][kBlocks]) {
    V total[kTileRows][kBlocks] = {};
    for (int64_t h = 0; h < rows; ++h) {
      const auto* d = backprops + h * all_columns * kTileRows;
      int64_t at = h * row_step;
      for (int64_t w = 0; w < columns; ++w, d += kTileRows, at += column_step) {
        V x[kBlocks];
#pragma GCC unroll 4
        for (int b = 0; b < kBlocks; ++b) {
          x[b] = Vector<Scalar>::load(inputs[b] + at);
        }
#pragma GCC unroll 8
        for (int64_t r = 0; r < kTileRows; ++r) {
#pragma GCC unroll 4
          for (int b = 0; b < kBlocks; ++b) {
            total[r][b] += d[r] * x[b];
          }
        }
      }
    }
    std::memcpy(&tile, &total, sizeof total);
  }

  void add_sum(const Scalar* blocked, Scalar* sum) const {
    for (size_t b = 0; b < blocks_.size(); ++b) {
      const auto& block = blocks_[b];
      for (int64_t o = 0; o < f_.backprops.channels; ++o) {
        const auto* from = blocked + (static_cast<int64_t>(b) * tiles_ * kTileRows + o) * kLanes;
        auto* to = sum + o * columns_ + block.column;
        for (int64_t l = 0; l < block.width; ++l) {
          to[l] += from[l];
        }
      }
    }
  }

  Formation<Scalar> f_;
  int64_t positions_, tiles_, padded_columns_, padded_rows_, channels_, columns_;
  Buffer<Scalar> backprops_, input_;
  std::vector<ColumnBlock> blocks_;
};

template <typename Scalar>
void form_here(const Formation<Scalar>& formation, int64_t begin, int64_t end,
               const FormationResult<Scalar>& result) {
  Former<Scalar>(formation).run(begin, end, result);
}

}  // namespace
}  // namespace gradist::detail
