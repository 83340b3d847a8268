#pragma once

#include "estimators/gradient_estimator.h"
#include "estimators/moments.h"

#include <ATen/core/Generator.h>

#include <cstdint>
#include <vector>

namespace gradist {

/// The three ways to measure, docs/measuring.md.
enum class MeasureMode {
  kExact,   ///< one pass over all examples
  kSubset,  ///< n random examples (stratified for clusters), unbiased, 95 % interval
  kSampled  ///< E draws of every estimator, unbiased with E - 1, 95 % interval; works for every
            ///< model
};

struct MeasureOptions {
  MeasureMode mode = MeasureMode::kExact;
  int64_t examples = 1000;  ///< n of subset
  int64_t draws = 50;       ///< E of sampled
  bool faghri = false;      ///< sampled: the paper's protocol, deviations from the mean of E other
                            ///< draws, 1e-7 below the line
  bool per_coordinate = false;  ///< keep the variance of each coordinate, 8 P bytes an estimator
  int64_t max_memory = 0;       ///< bytes for the factors of a chunk; 0: 256 MiB
};

/// What a measurement says about all estimators at the present parameters.
struct Measurement {
  std::vector<Moments> moments;  ///< one an estimator, in the order given
  ParameterList full_gradient;   ///< g, float64; its estimate for subset and sampled
  double squared_gradient_norm =
      kUndefined;            ///< ||g||^2 (unbiased estimate for subset and sampled)
  at::Tensor squared_norms;  ///< ||g_i||^2 of the examples seen, [N] in data order when exact, [n]
                             ///< for subset, undefined for sampled
  double mean_loss = kUndefined;  ///< (1/N) sum_i f_i, exact mode only
};

/// Measures `estimators` (refreshed before) on the source. Never touches the model's parameters;
/// all randomness from `generator`. Estimators whose strata or snapshots agree share one pass.
Measurement measure(GradientSource& source, const std::vector<const GradientEstimator*>& estimators,
                    const MeasureOptions& options, at::Generator& generator);

}  // namespace gradist
