#pragma once

#include <cstdint>
#include <vector>

namespace gradist::detail {

/// How one side of the products of a formation lies in memory: numbers (c, h, w) of an example
/// start at `data + example * i`, `channel`, `row` and `column` apart (in numbers).
template <typename Scalar>
struct FormationSide {
  const Scalar* data = nullptr;
  int64_t example = 0, channel = 0, row = 0, column = 0;
  int64_t channels = 0, rows = 0, columns = 0;
};

/// Forms the gradients of single examples in registers, squares them and adds them up, without
/// storing them:
///
///   g_i[o, (u, v, c)] = sum_{h, w} d_i[o, h, w] x_i[c, h stride_h + u dilation_h - padding_h, w
///                       stride_w + v dilation_w - padding_w]
///
/// for kernels of `kernel_rows` x `kernel_columns` positions (u, v): the weight of a convolution;
/// and with a 1 x 1 kernel, S columns and one row, of a linear layer over S positions. Sums over
/// positions in blocks, so that the error does not grow with their number. Threads take different
/// examples, or different parts of the columns (u, v, c).
template <typename Scalar>
struct Formation {
  FormationSide<Scalar> backprops;  ///< d: channels O, rows and columns of the output
  FormationSide<Scalar> input;      ///< x: channels C, rows and columns of the input
  int64_t kernel_rows = 1, kernel_columns = 1;
  int64_t stride[2] = {1, 1}, padding[2] = {0, 0}, dilation[2] = {1, 1};

  int64_t coordinates() const {
    return backprops.channels * input.channels * kernel_rows * kernel_columns;
  }
};

/// One of `count` ranges of the columns.
struct FormationPart {
  int64_t index = 0, count = 1;
};

/// Examples [begin, end), the columns of a part: squared_norms[i] = ||g_i||^2, `sum` [O, C,
/// kernel_rows, kernel_columns] = sum_i g_i, `formed` [end - begin, O, kernel_rows, kernel_columns,
/// C] = g_i, each where it is not null.
template <typename Scalar>
struct FormationResult {
  double* squared_norms = nullptr;
  Scalar* sum = nullptr;
  Scalar* formed = nullptr;
};

template <typename Scalar>
void form(const Formation<Scalar>& formation, int64_t begin, int64_t end, FormationPart part,
          const FormationResult<Scalar>& result);

/// Multiply-adds that `form` runs for an example, unused vector lanes included.
template <typename Scalar>
double formation_operations(const Formation<Scalar>& formation);

/// The same for a linear layer over S positions, whose numbers lie side by side in memory:
///
///   g_i[o, c] = sum_s d_i[s, o] a_i[s, c]
///
/// with d_i[s, o] at `backprops.data + backprops.example * i + backprops.position * s + o`, and a
/// likewise.
template <typename Scalar>
struct PositionSide {
  const Scalar* data = nullptr;
  int64_t example = 0, position = 0;
  int64_t numbers = 0;  ///< O, or I
};
template <typename Scalar>
struct PositionFormation {
  PositionSide<Scalar> backprops, activations;
  int64_t examples = 0, positions = 0;
};

/// Coordinates of the gradients that are formed together, for all examples: threads take different
/// ones, so that they share one sum.
struct CoordinateRange {
  int64_t row_begin = 0, row_end = 0, column_begin = 0, column_end = 0;
};

/// squared_norms[i] += the squares of g_i's coordinates in the range; `sum` [O, I] += sum_i g_i
/// there, or = where `fresh`; `backprop_sums` [examples, O] = sum_s d_i[s, o] for the rows of the
/// range; the latter two nothing where they are null.
template <typename Scalar>
struct PositionResult {
  double* squared_norms = nullptr;
  Scalar* sum = nullptr;
  bool fresh = true;
  Scalar* backprop_sums = nullptr;
};

template <typename Scalar>
void form_positions(const PositionFormation<Scalar>& formation, const CoordinateRange& range,
                    const PositionResult<Scalar>& result);

/// Registers side by side in a tile of form_positions.
constexpr int kPositionBlocks = 2;

/// Rows and columns that ranges should begin at multiples of.
struct PositionTile {
  int64_t rows, columns;
};
template <typename Scalar>
PositionTile position_tile();

/// The kernels of one instruction set.
struct FormationKernels {
  void (*form_float)(const Formation<float>&, int64_t, int64_t, FormationPart,
                     const FormationResult<float>&);
  void (*form_double)(const Formation<double>&, int64_t, int64_t, FormationPart,
                      const FormationResult<double>&);
  void (*positions_float)(const PositionFormation<float>&, const CoordinateRange&,
                          const PositionResult<float>&);
  void (*positions_double)(const PositionFormation<double>&, const CoordinateRange&,
                           const PositionResult<double>&);
  int64_t tile_rows;      ///< outputs formed together
  int64_t position_rows;  ///< the same over positions
  int64_t vector_bytes;   ///< width of a register
};
extern const FormationKernels kFormationBaseline;
extern const FormationKernels kFormationV3;
extern const FormationKernels kFormationV4;

}  // namespace gradist::detail
