#pragma once

// The kernel of formation.h for one instruction set, see kernel_vectors.h.

#include "gradients/formation.h"
#include "gradients/kernel_vectors.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

namespace gradist::detail {
namespace {

constexpr int kTileBlocks = 3;

/// Positions summed in registers before they join the sum of the former ones.
constexpr int64_t kBlockedPositions = 2048;

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
  const auto row = p / side.columns, column = p % side.columns;
  Walk source{side.columns, side.column, side.row, column, row * side.row + column * side.column};
  for (; p < positions; ++p) {
    const auto* numbers = start + source.next();
    auto* there = to + walk.next();
    for (int64_t c = 0; c < width; ++c) {
      there[c] = numbers[c * side.channel];
    }
  }
}

/// Columns of g from `column` on, a run or one register of them: where their inputs start, relative
/// to the first of the first position, and how many there are.
struct ColumnBlock {
  int64_t offset, width, column;
};

/// Bytes of backprops and inputs that a group of examples may take, so that they stay in L2, and
/// most examples of one.
constexpr int64_t kGroupBytes = int64_t{1} << 19;
constexpr int64_t kMostInGroup = 16;

/// Sums up to this many bytes stay in L2 by themselves: no need of groups.
constexpr int64_t kSmallSumBytes = int64_t{1} << 18;

template <typename Scalar>
class Former {
  using V = typename Vector<Scalar>::Type;
  using Squares = typename Vector<Scalar>::Doubles;
  static constexpr int64_t kLanes = Vector<Scalar>::kLanes;

 public:
  Former(const Formation<Scalar>& formation, FormationPart part)
      : f_(formation),
        positions_(f_.backprops.rows * f_.backprops.columns),
        tiles_((f_.backprops.channels + kTileRows - 1) / kTileRows),
        padded_columns_(f_.input.columns + 2 * f_.padding[1]),
        padded_rows_(f_.input.rows + 2 * f_.padding[0]),
        channels_(f_.input.channels),
        columns_(f_.kernel_rows * f_.kernel_columns * channels_),
        runs_(make_runs()),
        unrolled_(is_worth_unrolling()),
        blocks_(make_blocks(part)),
        backprops_numbers_(tiles_ * positions_ * kTileRows),
        plane_numbers_(padded_rows_ * padded_columns_ * channels_ + kTileBlocks * kLanes),
        input_numbers_(unrolled_ ? positions_ * unrolled_step() + kTileBlocks * kLanes
                                 : plane_numbers_),
        group_(group_size()),
        backprops_(group_ * backprops_numbers_),
        input_(group_ * input_numbers_),
        plane_(unrolled_ ? plane_numbers_ : 0) {}

  /// A group of examples at a time: while their part of a tile's sum is added, it stays in L1.
  void run(int64_t begin, int64_t end, const FormationResult<Scalar>& result) {
    const Buffer<Scalar> blocked_sum(result.sum == nullptr ? 0 : sum_numbers());
    auto* sum = result.sum == nullptr ? nullptr : blocked_sum.get();
    for (auto i = begin; i < end; i += group_) {
      const auto count = std::min(group_, end - i);
      auto* formed =
          result.formed == nullptr ? nullptr : result.formed + (i - begin) * f_.coordinates();
      for (int64_t g = 0; g < count; ++g) {
        read(i + g, g);
        squares_[static_cast<size_t>(g)] = Squares{};
      }
      form_group(count, sum, formed);
      for (int64_t g = 0; g < count && result.squared_norms != nullptr; ++g) {
        result.squared_norms[i + g] = 0;
        for (int64_t l = 0; l < kLanes; ++l) {
          result.squared_norms[i + g] += squares_[static_cast<size_t>(g)][l];
        }
      }
    }
    if (result.sum != nullptr) {
      store_sum(sum, result.sum);
    }
  }

 private:
  /// Columns whose inputs lie side by side: those of neighbouring kernel columns do, unless
  /// dilated.
  std::vector<ColumnBlock> make_runs() const {
    std::vector<ColumnBlock> runs;
    const bool joined = f_.dilation[1] == 1;
    const auto width = joined ? f_.kernel_columns * channels_ : channels_;
    for (int64_t u = 0; u < f_.kernel_rows; ++u) {
      for (int64_t v = 0; v < (joined ? 1 : f_.kernel_columns); ++v) {
        const auto start = (u * f_.dilation[0] * padded_columns_ + v * f_.dilation[1]) * channels_;
        runs.push_back({start, width, (u * f_.kernel_columns + v) * channels_});
      }
    }
    return runs;
  }

  /// Runs shorter than a register leave it partly empty: then all inputs of a position are brought
  /// side by side. To copy a run takes about as long as a register does for a tile.
  bool is_worth_unrolling() const {
    const auto count = static_cast<int64_t>(runs_.size());
    const auto saved = count - (columns_ + kLanes - 1) / kLanes;
    return runs_.front().width < kLanes && saved * tiles_ >= count;
  }

  /// Numbers from one position to the next where they are unrolled.
  int64_t unrolled_step() const { return (columns_ + kLanes - 1) / kLanes * kLanes; }

  std::vector<ColumnBlock> make_blocks(FormationPart part) const {
    std::vector<ColumnBlock> blocks;
    const std::vector<ColumnBlock> all{{0, columns_, 0}};
    for (const auto& run : unrolled_ ? all : runs_) {
      for (int64_t c = 0; c < run.width; c += kLanes) {
        blocks.push_back({run.offset + c, std::min(kLanes, run.width - c), run.column + c});
      }
    }
    const auto count = static_cast<int64_t>(blocks.size());
    const auto tiles = (count + kTileBlocks - 1) / kTileBlocks;
    const auto begin = [&](int64_t of) {
      return blocks.begin() + std::min(of * tiles / part.count * kTileBlocks, count);
    };
    return {begin(part.index), begin(part.index + 1)};
  }

  /// [block of columns][tile of outputs][kTileRows][kLanes].
  int64_t sum_numbers() const {
    return static_cast<int64_t>(blocks_.size()) * tiles_ * kTileRows * kLanes;
  }

  int64_t group_size() const {
    constexpr auto kBytes = static_cast<int64_t>(sizeof(Scalar));
    if (sum_numbers() * kBytes <= kSmallSumBytes) {
      return 1;
    }
    return std::clamp<int64_t>(kGroupBytes / (kBytes * (backprops_numbers_ + input_numbers_)), 1,
                               kMostInGroup);
  }

  /// Brings an example's backprops into tiles of outputs [tile][position][kTileRows] and its inputs
  /// into a padded plane [row][column][channel], unrolled or not, as number `g` of its group.
  void read(int64_t example, int64_t g) {
    const auto& d = f_.backprops;
    auto* backprops = backprops_.get() + g * backprops_numbers_;
    for (int64_t t = 0; t < tiles_; ++t) {
      gather_channels(d, d.data + example * d.example, t * kTileRows,
                      backprops + t * positions_ * kTileRows,
                      {d.columns, kTileRows, d.columns * kTileRows});
    }
    auto* input = input_.get() + g * input_numbers_;
    read_plane(example, unrolled_ ? plane_.get() : input);
    if (unrolled_) {
      unroll(input);
    }
  }

  void read_plane(int64_t example, Scalar* plane) {
    const auto& x = f_.input;
    const auto* from = x.data + example * x.example;
    auto* origin = plane + (f_.padding[0] * padded_columns_ + f_.padding[1]) * channels_;
    if ((channels_ == 1 || x.channel == 1) && x.column == channels_) {
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

  /// The inputs of every position side by side. A whole register is copied for a run: what is
  /// beyond is written over by the next one, or in no column.
  void unroll(Scalar* to) const {
    const auto& d = f_.backprops;
    for (int64_t h = 0; h < d.rows; ++h) {
      const auto* from = plane_.get() + h * f_.stride[0] * padded_columns_ * channels_;
      for (int64_t w = 0; w < d.columns; ++w, from += f_.stride[1] * channels_) {
        for (const auto& run : runs_) {
          Vector<Scalar>::store(to + run.column, Vector<Scalar>::load(from + run.offset));
        }
        to += unrolled_step();
      }
    }
  }

  void form_group(int64_t count, Scalar* sum, Scalar* formed) {
    const auto blocks = static_cast<int64_t>(blocks_.size());
    for (int64_t first = 0; first < blocks; first += kTileBlocks) {
      switch (std::min<int64_t>(kTileBlocks, blocks - first)) {
        case 1:
          form_columns<1>(first, count, sum, formed);
          break;
        case 2:
          form_columns<2>(first, count, sum, formed);
          break;
        default:
          form_columns<3>(first, count, sum, formed);
      }
    }
  }

  /// kBlocks registers of columns, all outputs.
  template <int kBlocks>
  void form_columns(int64_t first, int64_t count, Scalar* sum, Scalar* formed) {
    for (int64_t t = 0; t < tiles_; ++t) {
      for (int64_t g = 0; g < count; ++g) {
        V tile[kTileRows][kBlocks];
        products<kBlocks>(first,
                          backprops_.get() + g * backprops_numbers_ + t * positions_ * kTileRows,
                          input_.get() + g * input_numbers_, tile);
        V square{};
        for (int b = 0; b < kBlocks; ++b) {
          auto* to =
              sum == nullptr ? nullptr : sum + ((first + b) * tiles_ + t) * kTileRows * kLanes;
          square += add_block<kBlocks>(tile, b, blocks_[static_cast<size_t>(first + b)].width, to);
        }
        squares_[static_cast<size_t>(g)] += __builtin_convertvector(square, Squares);
        if (formed != nullptr) {
          store<kBlocks>(tile, t * kTileRows, first, formed + g * f_.coordinates());
        }
      }
    }
  }

  /// Adds a block of columns to its sum, unless that is null; returns its squares. Lanes beyond
  /// `width` are set to 0.
  template <int kBlocks>
  [[gnu::always_inline]] static V add_block(V (&tile)[kTileRows][kBlocks], int b, int64_t width,
                                            Scalar* sum) {
    if (width < kLanes) {
      for (int64_t r = 0; r < kTileRows; ++r) {
        for (int64_t l = width; l < kLanes; ++l) {
          tile[r][b][l] = 0;
        }
      }
    }
    V square{};
#pragma GCC unroll 8
    for (int64_t r = 0; r < kTileRows; ++r) {
      square += tile[r][b] * tile[r][b];
      if (sum != nullptr) {
        auto* to = sum + r * kLanes;
        Vector<Scalar>::store(to, Vector<Scalar>::load(to) + tile[r][b]);
      }
    }
    return square;
  }

  /// Keeps the rows of a tile that begins with this output.
  template <int kBlocks>
  void store(const V (&tile)[kTileRows][kBlocks], int64_t output, int64_t first, Scalar* formed) {
    const auto rows = std::min(kTileRows, f_.backprops.channels - output);
    for (int64_t r = 0; r < rows; ++r) {
      for (int b = 0; b < kBlocks; ++b) {
        const auto& block = blocks_[static_cast<size_t>(first + b)];
        std::memcpy(formed + (output + r) * columns_ + block.column, &tile[r][b],
                    static_cast<size_t>(block.width) * sizeof(Scalar));
      }
    }
  }

  /// The sums over positions of one tile.
  template <int kBlocks>
  [[gnu::always_inline]] void products(int64_t first, const Scalar* backprops, const Scalar* input,
                                       V (&tile)[kTileRows][kBlocks]) const {
    const auto& d = f_.backprops;
    const auto row_step =
        unrolled_ ? d.columns * unrolled_step() : f_.stride[0] * padded_columns_ * channels_;
    const auto column_step = unrolled_ ? unrolled_step() : f_.stride[1] * channels_;
    const auto columns_at_once = std::min(d.columns, kBlockedPositions);
    const auto rows_at_once =
        std::max<int64_t>(1, kBlockedPositions / std::max<int64_t>(1, d.columns));
    const Scalar* inputs[kBlocks];
    for (int b = 0; b < kBlocks; ++b) {
      inputs[b] = input + blocks_[static_cast<size_t>(first + b)].offset;
    }
    if (d.rows <= rows_at_once && d.columns <= columns_at_once) {
      block_of_positions<kBlocks>(backprops, d.columns, inputs, 0, d.rows, d.columns, row_step,
                                  column_step, tile);
      return;
    }
    std::memset(&tile, 0, sizeof tile);
    for (int64_t h = 0; h < d.rows; h += rows_at_once) {
      for (int64_t w = 0; w < d.columns; w += columns_at_once) {
        V part[kTileRows][kBlocks];
        block_of_positions<kBlocks>(
            backprops + (h * d.columns + w) * kTileRows, d.columns, inputs,
            h * row_step + w * column_step, std::min(rows_at_once, d.rows - h),
            std::min(columns_at_once, d.columns - w), row_step, column_step, part);
        for (int64_t r = 0; r < kTileRows; ++r) {
          for (int b = 0; b < kBlocks; ++b) {
            tile[r][b] += part[r][b];
          }
        }
      }
    }
  }

  /// Of `rows` x `columns` positions, whose inputs start at `at`.
  template <int kBlocks>
  [[gnu::always_inline]] static void block_of_positions(const Scalar* backprops,
                                                        int64_t all_columns,
                                                        const Scalar* const (&inputs)[kBlocks],
                                                        int64_t at, int64_t rows, int64_t columns,
                                                        int64_t row_step, int64_t column_step,
                                                        V (&tile)[kTileRows][kBlocks]) {
    V total[kTileRows][kBlocks] = {};
    for (int64_t h = 0; h < rows; ++h) {
      const auto* d = backprops + h * all_columns * kTileRows;
      int64_t here = at + h * row_step;
      const auto add = [&](int64_t w) __attribute__((always_inline)) {
        add_position<kBlocks>(d + w * kTileRows, inputs, here, total);
        here += column_step;
      };
      in_steps(columns, add);
    }
    std::memcpy(&tile, &total, sizeof total);
  }

  template <int kBlocks>
  [[gnu::always_inline]] static void add_position(const Scalar* d,
                                                  const Scalar* const (&inputs)[kBlocks],
                                                  int64_t at, V (&total)[kTileRows][kBlocks]) {
    V x[kBlocks];
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
      x[b] = Vector<Scalar>::load(inputs[b] + at);
    }
    add_products<kTileRows / 4>(d, x, total);
  }

  void store_sum(const Scalar* blocked, Scalar* sum) const {
    const auto kernel = f_.kernel_rows * f_.kernel_columns;
    for (int64_t o = 0; o < f_.backprops.channels; ++o) {
      const auto* from = blocked + o * kLanes;
      auto* to = sum + o * columns_;
      for (const auto& block : blocks_) {
        auto k = block.column / channels_, c = block.column % channels_;
        for (int64_t l = 0; l < block.width; ++l) {
          to[c * kernel + k] = from[l];
          if (++c == channels_) {
            c = 0;
            ++k;
          }
        }
        from += tiles_ * kTileRows * kLanes;
      }
    }
  }

  Formation<Scalar> f_;
  int64_t positions_, tiles_, padded_columns_, padded_rows_, channels_, columns_;
  std::vector<ColumnBlock> runs_;
  bool unrolled_;
  std::vector<ColumnBlock> blocks_;
  int64_t backprops_numbers_, plane_numbers_, input_numbers_, group_;  ///< numbers of one example
  Buffer<Scalar> backprops_, input_;
  Buffer<Scalar> plane_;  ///< of one example, before it is unrolled
  std::array<Squares, kMostInGroup> squares_;
};

template <typename Scalar>
void form_here(const Formation<Scalar>& formation, int64_t begin, int64_t end, FormationPart part,
               const FormationResult<Scalar>& result) {
  Former<Scalar>(formation, part).run(begin, end, result);
}

}  // namespace
}  // namespace gradist::detail
