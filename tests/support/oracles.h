#pragma once

#include "gc/sampling_design.h"
#include "gradients/gradient_source.h"

#include <cstdint>
#include <functional>
#include <vector>

/// Slow, obviously correct counterparts of what gradist computes, all in float64 and with every
/// gradient formed. N examples, P parameters laid end to end, K clusters. G [N, P] holds the
/// per-example gradients g_i as rows.
namespace gradist::test {

/// All parameters' entries end to end, [P] float64.
at::Tensor flatten(const ParameterList& tensors);

/// The rows g_i of a batch in factors, [B, P] float64.
at::Tensor dense(const GradientBatch& batch);

/// G by autograd, one example after the other: loss(i) is f_i. A parameter that f_i does not depend
/// on gets zeros.
at::Tensor dense_one_by_one(const std::function<at::Tensor(int64_t)>& loss, int64_t examples,
                            const ParameterList& parameters);

/// One of all possible draws.
struct PossibleDraw {
  WeightedBatch batch;
  double probability = 0;
};

/// Every draw of a design: all tuples with replacement, all subsets without, independent between
/// strata.
std::vector<PossibleDraw> enumerate_draws(const SamplingDesign& design);

/// Moments of a random row that takes `rows` [M, P] with `probabilities` [M], by their definitions.
struct DenseMoments {
  at::Tensor mean;           ///< [P]
  at::Tensor variance;       ///< [P]
  at::Tensor second_moment;  ///< [P], E of the squares
};
DenseMoments moments_of(const at::Tensor& rows, const at::Tensor& probabilities);

/// Var_j / E_j averaged over the coordinates j with E_j != 0, and how many were left out.
struct DenseNormalizedVariance {
  double mean = 0;
  int64_t left_out = 0;
};
DenseNormalizedVariance normalized_variance_of(const DenseMoments& moments);

/// trCov = (1/N) sum_i ||g_i - g||^2.
double dense_trace_covariance(const at::Tensor& gradients);

/// J = sum_k N_k sum_{i in k} ||g_i - C_k||^2 for the best centers C_k, the means. [Faghri20] Eqs.
/// 3, 4.
double dense_objective(const at::Tensor& gradients, const at::Tensor& assignments,
                       int64_t clusters);

}  // namespace gradist::test
