#pragma once

#include "rf/philox.h"
#include "rf/problem.h"

#include <cstdint>
#include <vector>

namespace gradist::rf {

/// The gradients g_i = r_i psi_i of a problem at one readout.
template <class T>
struct RankOneGradients {
  const Problem<T>& problem;
  const std::vector<double>& residuals;  ///< r_i, [N]
  std::vector<double> squared_norms;     ///< ||g_i||^2 = r_i^2 ||psi_i||^2, [N]

  /// `row_norms` are squared_row_norms of the problem, which no step of training changes.
  RankOneGradients(const Problem<T>& of, const std::vector<double>& residuals,
                   const std::vector<double>& row_norms);
};

/// A partition of the examples, and J = sum_k N_k SSE_k of it. The variance of one draw a cluster
/// is J / N^2. [Faghri20] Prop. 3.1
struct Partition {
  std::vector<int32_t> assignments;  ///< [N], in [0, K)
  std::vector<int64_t> sizes;        ///< N_k, [K]
  double objective = 0;
  std::vector<double> history;  ///< J after each step of the algorithm
};

/// sum_{i in k} g_i of each cluster, [K, P] in float64.
template <class T>
Rows<double> cluster_sums(const Problem<T>& problem, const std::vector<double>& residuals,
                          const std::vector<int32_t>& assignments, int64_t clusters);

/// J of given assignments, exact: J_k = N_k sum ||g_i||^2 - ||sum g_i||^2.
template <class T>
Partition evaluated(const RankOneGradients<T>& gradients, std::vector<int32_t> assignments,
                    int64_t clusters);

/// Gradient Clustering as in gc/lloyd.h, with the rules that are told there, on gradients that have
/// rank one as they are: centers are the true means of gradients, and k-means++ starts from 16
/// random examples a cluster. Cost O(N K h) a step.
template <class T>
Partition lloyd(const RankOneGradients<T>& gradients, int64_t clusters, int64_t steps,
                Words& random);

/// Descent on J itself: from a balanced random partition one example after another moves to where J
/// falls most, the change of N_k counted, until a sweep moves nothing or `sweeps` are done. J never
/// rises beyond rounding, and empty clusters need no rule. Cost O(N K h) a sweep.
template <class T>
Partition descent(const RankOneGradients<T>& gradients, int64_t clusters, int64_t sweeps,
                  Words& random);

/// A random order of 0 .. n-1, by Fisher and Yates.
std::vector<int32_t> random_order(int64_t n, Words& random);

}  // namespace gradist::rf
