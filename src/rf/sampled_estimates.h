#pragma once

#include "rf/closed_form_moments.h"
#include "rf/philox.h"

#include <cstdint>
#include <utility>
#include <vector>

namespace gradist::rf {

/// Examples and weights of one estimate: sum_i w_i (r_i - h_i) psi_i + g~, h and g~ svrg's
/// snapshot.
struct Draw {
  std::vector<int32_t> examples;
  std::vector<double> weights;
};

/// One draw of an estimator, with replacement.
Draw draw(const EstimatorState& state, int64_t examples, int64_t batch_size, Words& random);

struct SampledOptions {
  DrawOptions draws;
  int64_t estimates = 50;  ///< E
  bool faghri = false;     ///< the paper's protocol
};

/// Moments of one estimator from E of its draws, as in estimators/sampled_moments.h: unbiased with
/// E - 1, or by the paper's protocol.
template <class T>
Moments sampled_moments(const Problem<T>& problem, const std::vector<double>& residuals,
                        const EstimatorState& state, const SampledOptions& options, Words& random);

}  // namespace gradist::rf
