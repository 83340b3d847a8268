#include "estimators/moments.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <numeric>

namespace gradist {
namespace {

double ratio(double numerator, double denominator) {
  return denominator > 0 ? numerator / denominator : kUndefined;
}

}  // namespace

Moments make_moments(const MomentInputs& inputs) {
  Moments moments;
  double trace = 0;
  for (size_t l = 0; l < inputs.layer_traces.size(); ++l) {
    // max(x, 0), not max(0, x): a NaN stays one.
    const auto layer_trace = std::max(inputs.layer_traces[l], 0.0);
    trace += layer_trace;
    moments.layer_average_variance.push_back(layer_trace /
                                             static_cast<double>(inputs.layer_sizes[l]));
  }
  const auto parameters = static_cast<double>(
      std::accumulate(inputs.layer_sizes.begin(), inputs.layer_sizes.end(), int64_t{0}));
  const auto signal = std::max(inputs.squared_gradient_norm, 0.0);
  moments.trace_covariance = trace;
  moments.average_variance = trace / parameters;
  moments.mean_squared_norm = trace + signal;
  moments.noise_ratio = ratio(trace, moments.mean_squared_norm);
  moments.noise_to_signal = ratio(trace, signal);
  moments.mse = trace + moments.bias_squared;

  double sum = 0;
  int64_t defined = 0;
  for (size_t l = 0; l < inputs.variance.size(); ++l) {
    const auto& variance = moments.variance.emplace_back(inputs.variance[l].clamp_min(0));
    const auto second_moment = variance + inputs.squared_gradient[l].clamp_min(0);
    const auto positive = second_moment > 0;
    sum += at::where(positive, variance / second_moment, 0.0).sum().item<double>();
    defined += positive.sum().item<int64_t>();
    moments.zero_coordinates += positive.numel() - positive.sum().item<int64_t>();
  }
  moments.normalized_variance = ratio(sum, static_cast<double>(defined));
  return moments;
}

}  // namespace gradist
