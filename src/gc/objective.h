#pragma once

#include "gc/clustering.h"
#include "gc/sampling_design.h"
#include "gradients/gradient_source.h"

#include <cstdint>
#include <vector>

namespace gradist {

/// What one pass over all examples in cluster order says of a clustering, exactly: sums of full
/// gradients in float64.
struct ExactObjective {
  std::vector<double>
      scatter;  ///< N_k SSE_k = N_k sum_{i in k} ||g_i||^2 - ||sum_{i in k} g_i||^2, [K]
  at::Tensor parameter_scatter;  ///< the same of each parameter alone, [L, K] float64
  double objective = 0;          ///< J = sum_k N_k SSE_k. [Faghri20] Eq. 2
  at::Tensor squared_norms;      ///< ||g_i||^2, [N] float64
  double trace_covariance = 0;   ///< trCov = (1/N) sum_i ||g_i||^2 - ||g||^2
};

ExactObjective exact_objective(GradientSource& source, const Clustering& clustering,
                               int64_t max_memory = 0);

/// tr Cov of the stratified estimate, N^-2 sum_k N_k^2 V_k / b_k with N_k^2 V_k = scatter_k, and
/// the finite population factors of draws without replacement. Proposition 3.1 of [Faghri20] for
/// b_k = 1.
double stratified_variance(const SamplingDesign& design, const ExactObjective& exact);

/// tr Cov of SG-B at the same number of draws: trCov / B, times (N - B) / (N - 1) without
/// replacement.
double uniform_variance(int64_t examples, int64_t draws, bool replacement, double trace_covariance);

}  // namespace gradist
