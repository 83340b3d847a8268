#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace gradist {

/// Examples of an order whose products with all sums are formed together; moves within such a block
/// correct them.
constexpr int64_t kBlockOfMoves = 256;

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

/// What a descent ended at.
struct Moved {
  at::Tensor assignments;       ///< [N] int64
  std::vector<double> history;  ///< J of the x_i at the start and after each sweep; never rises
};

/// Descent on J = sum_k N_k SSE_k by moves of single examples: each goes to the cluster k of least
///
///   sum_{m in k} ||x_i - x_m||^2 = N_k ||x_i||^2 + R_k - 2 <x_i, s_k>,    R_k = sum_{m in k}
///   ||x_m||^2.
///
/// J is the sum of ||x_i - x_m||^2 over all pairs in one cluster, so a move changes it by the
/// difference of two such sums: exactly, the change of N_k included, and ties and empty clusters
/// need no rule. `orders` are the sweeps, [N] each; one without a move, or that lowers J by less
/// than the part `least_gain` of it, is the last. `balanced`: examples of a block exchange clusters
/// in place of moving, and sizes stay as they are.
Moved descend_by_moves(ClusterProducts& products, const at::Tensor& start, int64_t clusters,
                       const std::vector<at::Tensor>& orders, bool balanced = false,
                       double least_gain = 0);

/// J of a partition over what random clusters of equal size have, of whose variance SG-B's is: 0
/// where nothing is left of it, and 1 where no gradient differs from another.
double objective_over_random(ClusterProducts& products, const at::Tensor& assignments,
                             int64_t clusters);

/// Sketches estimate J to a few percent, so sweeps that gain less than this part are not worth
/// making.
constexpr double kLeastGainOfSketches = 0.005;

/// The descent of sketches x_i [N, D] in memory, from a random partition of equal sizes and in
/// random orders, up to `sweeps` of them.
Moved descend_rows(const at::Tensor& rows, int64_t clusters, int64_t sweeps,
                   at::Generator& generator);

}  // namespace gradist
