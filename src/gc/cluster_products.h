#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace gradist {

/// Where moves of single examples find their inner products. x_i stands for the gradient of example
/// i: its sketch, or the gradient itself where only inner products are needed; s_k is the sum of
/// the x_i in cluster k, kept in float64 while they move. Examples come in blocks, each once a
/// sweep:
///
///   read(block), then with_sums and expect, then within_block and move for each that moves.
class ClusterProducts {
 public:
  virtual ~ClusterProducts() = default;

  /// The examples [n] that the calls below are about.
  virtual void read(const at::Tensor& block) = 0;

  /// Their ||x_i||^2, [n] float64.
  virtual at::Tensor squared_norms() = 0;

  /// A move counts as one only where it lowers J by this part of its terms: their rounding.
  virtual double rounding() const = 0;

  /// <x_i, s_k> at the present s_k, [n, K] float64.
  virtual at::Tensor with_sums() = 0;

  /// Rows of the block that will probably move: their products within it are formed together.
  virtual void expect(const std::vector<int64_t>& rows) = 0;

  /// <x_i, x_j> of example `row` of the block with all of the block, [n] float64; until the next
  /// call.
  virtual const double* within_block(int64_t row) = 0;

  /// Example `row` of the block leaves cluster `from` for `to`.
  virtual void move(int64_t row, int64_t from, int64_t to) = 0;

  /// Before all moves: the block's examples are in these clusters, [n].
  virtual void place(const at::Tensor& clusters) = 0;

  /// ||s_k||^2, [K] float64.
  virtual at::Tensor sum_norms() = 0;

  /// ||sum_k s_k||^2.
  virtual double total_norm() = 0;
};

/// Rows x_i of some examples [n], [n, D]: from memory, or made anew from the model.
using RowReader = std::function<at::Tensor(const at::Tensor& block)>;

/// Products of rows. A block costs n K D, and n D for each that moves, by torch's BLAS in a
/// division of the work that does not depend on the number of threads.
std::unique_ptr<ClusterProducts> products_of_rows(RowReader rows, int64_t clusters);

/// Products from all <g_i, g_j>, [N, N] float64: nothing is estimated. A block costs n (K + n), a
/// move N.
std::unique_ptr<ClusterProducts> products_of_gram(at::Tensor gram, int64_t clusters);

}  // namespace gradist
