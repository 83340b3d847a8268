#pragma once

// The kernel of form_positions (formation.h) for one instruction set; see formation_kernel.h, which
// it follows: GRADIST_POSITION_ROWS rows of g_i and kPositionBlocks registers of its columns at a
// time, for which d and a are brought side by side first.

#include "gradients/formation_kernel.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace gradist::detail {
namespace {

constexpr int64_t kPositionRows = GRADIST_POSITION_ROWS;

template <typename Scalar>
class PositionFormer {
  using V = typename Vector<Scalar>::Type;
  static constexpr int64_t kLanes = Vector<Scalar>::kLanes;
  static constexpr int64_t kColumns = kPositionBlocks * kLanes;
  using Squares = typename Vector<Scalar>::Doubles;

 public:
  PositionFormer(const PositionFormation<Scalar>& formation, const CoordinateRange& range,
                 const PositionResult<Scalar>& result)
      : f_(formation),
        range_(range),
        result_(result),
        tiles_((range.row_end - range.row_begin + kPositionRows - 1) / kPositionRows),
        rows_(tiles_ * f_.positions * kPositionRows, /*zeroed=*/false),
        columns_(f_.positions * kColumns, /*zeroed=*/false) {}

  void run() {
    for (int64_t i = 0; i < f_.examples; ++i) {
      gather_rows(i);
      if (result_.backprop_sums != nullptr) {
        for (int64_t t = 0; t < tiles_; ++t) {
          add_rows_up(i, t);
        }
      }
      const bool fresh = result_.fresh && i == 0;
      Squares squares{};
      for (auto c = range_.column_begin; c < range_.column_end; c += kColumns) {
        if (range_.column_end - c <= kLanes) {
          column_tile<1>(i, c, fresh, squares);
        } else {
          column_tile<kPositionBlocks>(i, c, fresh, squares);
        }
      }
      double total = 0;
      for (int64_t l = 0; l < kLanes; ++l) {
        total += squares[l];
      }
      result_.squared_norms[i] += total;
    }
  }

 private:
  /// Brings an example's d side by side, several tiles at a time: they share cache lines.
  void gather_rows(int64_t example) {
    constexpr int64_t kTogether = 4;
    const auto whole = (range_.row_end - range_.row_begin) / kPositionRows;
    const auto tile_numbers = f_.positions * kPositionRows;
    int64_t t = 0;
    for (; t + kTogether <= whole; t += kTogether) {
      const auto* from =
          f_.backprops.data + example * f_.backprops.example + range_.row_begin + t * kPositionRows;
      auto* to = rows_.get() + t * tile_numbers;
      for (int64_t s = 0; s < f_.positions;
           ++s, from += f_.backprops.position, to += kPositionRows) {
        for (int64_t k = 0; k < kTogether; ++k) {
          std::memcpy(to + k * tile_numbers, from + k * kPositionRows,
                      kPositionRows * sizeof(Scalar));
        }
      }
    }
    for (; t < tiles_; ++t) {
      const auto row = range_.row_begin + t * kPositionRows;
      gather<kPositionRows>(f_.backprops, example, row, range_.row_end - row,
                            rows_.get() + t * tile_numbers);
    }
  }

  /// sum_s d_is of a tile of rows while it is near, kLanes positions at a time: so many registers
  /// hold whole rows of the tile, kPositionRows of them. Runs of kSummedPositions in Scalar.
  void add_rows_up(int64_t example, int64_t t) {
    constexpr int64_t kSummedPositions = 512;
    constexpr auto kNumbers = kPositionRows * kLanes;
    const auto* numbers = rows_.get() + t * f_.positions * kPositionRows;
    double sums[kPositionRows] = {};
    for (int64_t begin = 0; begin < f_.positions; begin += kSummedPositions) {
      const auto count = std::min(kSummedPositions, f_.positions - begin) * kPositionRows;
      const auto* from = numbers + begin * kPositionRows;
      V total[kPositionRows] = {};
      int64_t j = 0;
      for (; j + kNumbers <= count; j += kNumbers) {
        for (int64_t k = 0; k < kPositionRows; ++k) {
          total[k] += Vector<Scalar>::load(from + j + k * kLanes);
        }
      }
      for (int64_t k = 0; k < kNumbers; ++k) {
        sums[k % kPositionRows] += static_cast<double>(total[k / kLanes][k % kLanes]);
      }
      for (; j < count; ++j) {
        sums[j % kPositionRows] += static_cast<double>(from[j]);
      }
    }
    const auto row = range_.row_begin + t * kPositionRows;
    const auto rows = std::min(kPositionRows, range_.row_end - row);
    for (int64_t r = 0; r < rows; ++r) {
      result_.backprop_sums[example * f_.backprops.numbers + row + r] =
          static_cast<Scalar>(sums[r]);
    }
  }

  /// kWidth numbers of every position of an example, from `first`; what is beyond `width` stays 0.
  template <int64_t kWidth>
  void gather(const PositionSide<Scalar>& side, int64_t example, int64_t first, int64_t width,
              Scalar* to) {
    const auto* from = side.data + example * side.example + first;
    const auto bytes = static_cast<size_t>(std::min(kWidth, width)) * sizeof(Scalar);
    for (int64_t s = 0; s < f_.positions; ++s, from += side.position, to += kWidth) {
      if (width >= kWidth) {
        std::memcpy(to, from, kWidth * sizeof(Scalar));
      } else {
        std::memset(to, 0, kWidth * sizeof(Scalar));
        std::memcpy(to, from, bytes);
      }
    }
  }

  /// kBlocks registers of columns, all rows of the range.
  template <int kBlocks>
  void column_tile(int64_t example, int64_t column, bool fresh, Squares& squares) {
    gather<kBlocks * kLanes>(f_.activations, example, column, range_.column_end - column,
                             columns_.get());
    const bool whole_columns = range_.column_end - column >= kBlocks * kLanes;
    for (int64_t t = 0; t < tiles_; ++t) {
      const auto row = range_.row_begin + t * kPositionRows;
      const auto rows = std::min(kPositionRows, range_.row_end - row);
      auto* sum =
          result_.sum == nullptr ? nullptr : result_.sum + row * f_.activations.numbers + column;
      prefetch<kBlocks>(sum, rows);
      V tile[kPositionRows][kBlocks];
      products<kBlocks>(rows_.get() + t * f_.positions * kPositionRows, tile);
      const auto square = whole_columns && rows == kPositionRows
                              ? add_whole<kBlocks>(tile, sum, fresh)
                              : add_part<kBlocks>(tile, rows, column, sum, fresh);
      squares += __builtin_convertvector(square, Squares);
    }
  }

  /// By the time the products are there, so are the former sums.
  template <int kBlocks>
  void prefetch(const Scalar* sum, int64_t rows) {
    for (int64_t r = 0; sum != nullptr && r < rows; ++r, sum += f_.activations.numbers) {
      for (int b = 0; b < kBlocks; ++b) {
        __builtin_prefetch(sum + b * kLanes, 1);
      }
    }
  }

  /// Adds a tile to the sum, unless that is null; returns its squares.
  template <int kBlocks>
  V add_whole(const V (&tile)[kPositionRows][kBlocks], Scalar* sum, bool fresh) {
    V squares[kBlocks] = {};
    for (int64_t r = 0; r < kPositionRows; ++r) {
#pragma GCC unroll 4
      for (int b = 0; b < kBlocks; ++b) {
        squares[b] += tile[r][b] * tile[r][b];
        if (sum != nullptr) {
          auto* to = sum + r * f_.activations.numbers + b * kLanes;
          Vector<Scalar>::store(to, fresh ? tile[r][b] : Vector<Scalar>::load(to) + tile[r][b]);
        }
      }
    }
    V square = squares[0];
    for (int b = 1; b < kBlocks; ++b) {
      square += squares[b];
    }
    return square;
  }

  /// The same at the edges: `rows` rows, and no columns beyond the range.
  template <int kBlocks>
  V add_part(const V (&tile)[kPositionRows][kBlocks], int64_t rows, int64_t column, Scalar* sum,
             bool fresh) {
    V squares{};
    for (int64_t r = 0; r < rows; ++r) {
      for (int b = 0; b < kBlocks; ++b) {
        const auto width = std::clamp<int64_t>(range_.column_end - column - b * kLanes, 0, kLanes);
        V value = tile[r][b];
        for (int64_t l = width; l < kLanes; ++l) {
          value[l] = 0;
        }
        squares += value * value;
        if (sum != nullptr) {
          auto* to = sum + r * f_.activations.numbers + b * kLanes;
          for (int64_t l = 0; l < width; ++l) {
            to[l] = fresh ? value[l] : to[l] + value[l];
          }
        }
      }
    }
    return squares;
  }

  /// The sums over positions of one tile.
  template <int kBlocks>
  void products(const Scalar* rows, V (&tile)[kPositionRows][kBlocks]) {
    const auto* columns = columns_.get();
    block_of_positions<kBlocks>(rows, columns, std::min(f_.positions, kBlockedPositions), tile);
    for (auto s = kBlockedPositions; s < f_.positions; s += kBlockedPositions) {
      V part[kPositionRows][kBlocks];
      block_of_positions<kBlocks>(rows + s * kPositionRows, columns + s * kBlocks * kLanes,
                                  std::min(f_.positions - s, kBlockedPositions), part);
      for (int64_t r = 0; r < kPositionRows; ++r) {
        for (int b = 0; b < kBlocks; ++b) {
          tile[r][b] += part[r][b];
        }
      }
    }
  }

  template <int kBlocks>
  static void block_of_positions(const Scalar* rows, const Scalar* columns, int64_t positions,
                                 V (&tile)[kPositionRows][kBlocks]) {
    V total[kPositionRows][kBlocks] = {};
    const auto add = [&](int64_t s) __attribute__((always_inline)) {
      add_position<kBlocks>(rows + s * kPositionRows, columns + s * kBlocks * kLanes, total);
    };
    in_steps(positions, add);
    std::memcpy(&tile, &total, sizeof total);
  }

  template <int kBlocks>
  [[gnu::always_inline]] static void add_position(const Scalar* rows, const Scalar* columns,
                                                  V (&total)[kPositionRows][kBlocks]) {
    V x[kBlocks];
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
      x[b] = Vector<Scalar>::load(columns + b * kLanes);
    }
    add_products<2 * kPositionRows / 3>(rows, x, total);
  }

  PositionFormation<Scalar> f_;
  CoordinateRange range_;
  PositionResult<Scalar> result_;
  int64_t tiles_;
  Buffer<Scalar> rows_;     ///< of d: [tile][position][kPositionRows]
  Buffer<Scalar> columns_;  ///< of a: [position][kColumns]
};

template <typename Scalar>
void form_positions_here(const PositionFormation<Scalar>& formation, const CoordinateRange& range,
                         const PositionResult<Scalar>& result) {
  PositionFormer<Scalar>(formation, range, result).run();
}

constexpr FormationKernels make_kernels() {
  return {&form_here<float>,
          &form_here<double>,
          &form_positions_here<float>,
          &form_positions_here<double>,
          kTileRows,
          kPositionRows,
          GRADIST_VECTOR_BYTES};
}

}  // namespace
}  // namespace gradist::detail
