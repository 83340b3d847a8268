#pragma once

#include "estimators/moments.h"
#include "rf/estimator_state.h"
#include "rf/problem.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace gradist::rf {

/// How estimates are made from draws.
struct DrawOptions {
  int64_t batch_size = 10;  ///< B; sg-2b draws 2 B, gc one of each cluster
  int64_t logits = 1;       ///< 1, or 2: the softmax of two logits
};

/// Exact moments of the estimators at residuals r_i, all in one pass over the rows. With
/// g_i = r_i psi_i, per coordinate j and with replacement (sg-2b: B twice as large):
///
///   g_j            = (1/N) sum_i r_i psi_ij
///   Var[sg-b]      = ( (1/N) sum_i r_i^2 psi_ij^2 - g_j^2 ) / B
///   Var[svrg]      = the same of (r_i - r~_i) psi_i
///   Var[sg-importance] = ( N^-2 sum_i r_i^2 psi_ij^2 / p_i - g_j^2 ) / B
///   Var[gc]        = N^-2 ( sum_i N_k(i) r_i^2 psi_ij^2 - sum_k (sum_{i in k} r_i psi_ij)^2 )
///
/// and tr Cov is their sum. Cost O(N h) and some K h for clusters. An empty cluster draws nothing.
/// Two logits have twice the coordinates, each pair with the variance of the one. Sums over blocks
/// of 64 examples are taken in T, everything else in float64.
template <class T>
std::vector<Moments> exact_moments(const Problem<T>& problem, const std::vector<double>& residuals,
                                   const std::vector<EstimatorState>& states,
                                   const DrawOptions& options);

/// Moments from the variance and the square of the mean per coordinate, [P] each, the bias last.
/// `signal` is ||g||^2 of one logit where it is not the sum of the squares.
Moments moments_of_coordinates(const std::vector<double>& variance,
                               const std::vector<double>& squared_gradient, int64_t logits,
                               std::optional<double> signal = std::nullopt);

}  // namespace gradist::rf
