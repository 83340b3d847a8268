#pragma once

#include "gradients/gradient_batch.h"

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

namespace gradist {

inline constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

/// First and second moments of one gradient estimator at one point of a trajectory. Definitions in
/// docs/measuring.md; P parameters in all, L parameter tensors. tr Cov is the trace of the
/// covariance of the estimate at its own batch size.
struct Moments {
  double trace_covariance = kUndefined;  ///< tr Cov[estimate]
  double average_variance = kUndefined;  ///< tr Cov / P
  double normalized_variance =
      kUndefined;  ///< mean over j of Var_j / E[estimate_j^2], j with E = 0 left out
  double noise_ratio = kUndefined;        ///< tr Cov / E||estimate||^2
  double noise_to_signal = kUndefined;    ///< tr Cov / ||g||^2
  double mean_squared_norm = kUndefined;  ///< E||estimate||^2
  double bias_squared = 0;                ///< ||E[estimate] - g||^2
  double mse = kUndefined;                ///< tr Cov + bias_squared
  int64_t zero_coordinates = 0;           ///< coordinates left out of normalized_variance
  double interval_low = kUndefined;  ///< 95 % interval of average_variance; undefined when exact
  double interval_high = kUndefined;
  double variance_ratio =
      kUndefined;  ///< tr Cov over that of the plain mean of the same draws; with a snapshot only
  double variance_ratio_low = kUndefined;  ///< its 95 % interval; undefined when exact
  double variance_ratio_high = kUndefined;
  std::vector<double>
      layer_average_variance;  ///< [L], tr Cov of one parameter over its number of coordinates
  ParameterList variance;  ///< Var_j of the estimate, float64; see MeasureOptions::per_coordinate
  int64_t gradient_evaluations = 0;  ///< single-example gradients spent on this measurement
  double seconds = 0;  ///< wall time of the pass(es) it came from, shared by estimators of one pass
};

/// What the moments of an estimator are made from.
struct MomentInputs {
  std::vector<double>
      layer_traces;                ///< [L], trace of the covariance of the estimate, per parameter
  ParameterList variance;          ///< Var_j, float64; empty: normalized_variance stays undefined
  ParameterList squared_gradient;  ///< g_j^2 (or its estimate), float64; needed with `variance`
  double squared_gradient_norm = 0;  ///< ||g||^2 (or its estimate)
  std::vector<int64_t> layer_sizes;  ///< [L], coordinates of each parameter
};

/// Fills the definitions of docs/measuring.md for an unbiased estimator: E[estimate_j^2] = Var_j +
/// g_j^2. Rounding below zero is cut off. Evaluations, seconds and the interval are the caller's.
Moments make_moments(const MomentInputs& inputs);

}  // namespace gradist
