#pragma once

#include "gc/allocation.h"
#include "gc/clustering.h"

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace gradist {

/// Examples and the weight each one's gradient gets: sum_i w_i g_i estimates the full gradient.
struct WeightedBatch {
  at::Tensor indices;  ///< [n] int64
  at::Tensor weights;  ///< [n] float64
};

/// Examples from which `draws` are taken, each with weight `weight` / (N_k p_i).
struct Stratum {
  at::Tensor members;             ///< [N_k] int64
  int64_t draws = 0;              ///< b_k
  double weight = 0;              ///< N_k / (N b_k) for an unbiased estimate
  at::Tensor probabilities = {};  ///< p_i > 0, [N_k] float64, sum 1; undefined: uniform, 1 / N_k
};

/// How an estimator samples: all its randomness, written down, so that tests can enumerate every
/// draw. A uniform minibatch is one stratum; stratified sampling is one stratum a cluster
/// ([Faghri20] Eq. 1).
struct SamplingDesign {
  std::vector<Stratum> strata;
  bool replacement = true;  ///< within a stratum

  int64_t draws() const;           ///< sum_k b_k
  bool has_probabilities() const;  ///< some stratum's draws are not uniform
  bool is_uniform() const;         ///< one stratum, its members equally likely

  /// One draw of the whole design.
  WeightedBatch draw(at::Generator& generator) const;

  /// Factor of the variance of b_k draws from N_k without replacement, (N_k - b_k) / (N_k - 1); 1
  /// with replacement or for one draw, 0 for all.
  double finite_population_factor(const Stratum& stratum) const;
};

/// Uniform draws of n from N examples: one stratum. n > N without replacement is refused.
SamplingDesign uniform_design(int64_t examples, int64_t draws, bool replacement);

/// Stratified draws from the clusters, b_k by `allocation`, weight N_k / (N b_k). Empty
/// clusters are kept as strata without draws, so that stratum k is cluster k. [Faghri20] Eq. 1 when
/// draws = K.
SamplingDesign stratified_design(const Clustering& clustering, int64_t draws, bool replacement,
                                 Allocation allocation = Allocation::kProportional);

/// The design with draws inside each stratum, with replacement, by
///
///   p_i ~ (1 - mix) ||g_i|| / mean ||g|| + mix,
///
/// for `squared_norms` ||g_i||^2 [N] of all examples, at their mean over all; 0 < mix <= 1.
SamplingDesign with_importance(SamplingDesign design, const at::Tensor& squared_norms, double mix);

}  // namespace gradist
