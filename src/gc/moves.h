#pragma once

#include "gc/cluster_products.h"

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace gradist {

/// Examples of an order whose products with all sums are formed together; moves within such a block
/// correct them.
constexpr int64_t kBlockOfMoves = 256;

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
/// difference of two such sums: exactly, the change of N_k included, and empty clusters need no
/// rule. Of clusters that hold nothing but copies of an example, where the sum is 0, it goes to the
/// largest, so that others become free. `orders` are the sweeps, [N] each; one without a move, or
/// that lowers J by less than the part `least_gain` of it, is the last. `balanced`: examples of a
/// block exchange clusters in place of moving, and sizes stay as they are.
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
