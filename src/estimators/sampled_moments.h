#pragma once

#include "estimators/gradient_estimator.h"
#include "estimators/measurement.h"

#include <ATen/core/Generator.h>

namespace gradist::detail {

/// Moments of one estimator from E of its draws; what they say of the full gradient goes to
/// `gradient` where it is given.
///
/// Unbiased: tr Cov = sum_r ||e_r - mean||^2 / (E - 1), ||g||^2 = ||mean||^2 - tr Cov / E, interval
/// by the jackknife on the logarithm. With options.faghri the paper's protocol as the authors' code
/// has it: deviations from the mean of E other draws, divided by E (so inflated by 1 + 1 / E),
/// normalized variance = mean_j sum_r (e_rj - mean_j)^2 / (sum_r e_rj^2 + 1e-7), and no interval.
struct SampledGradient {
  ParameterList mean;       ///< float64
  double squared_norm = 0;  ///< unbiased
};
Moments sampled_moments(GradientSource& source, const GradientEstimator& estimator,
                        const MeasureOptions& options, at::Generator& generator,
                        SampledGradient* gradient);

}  // namespace gradist::detail
