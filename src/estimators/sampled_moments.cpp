#include "estimators/sampled_moments.h"

#include "estimators/interval.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace gradist::detail {
namespace {

constexpr int64_t kDefaultMemory = int64_t{1} << 30;
constexpr double kFaghriFloor = 1e-7;

ParameterList zeros(const GradientSource& source) {
  ParameterList list;
  for (const auto& parameter : source.parameters()) {
    list.push_back(at::zeros(parameter.sizes(), at::kDouble));
  }
  return list;
}

double inner(const ParameterList& a, const ParameterList& b) {
  double total = 0;
  for (size_t l = 0; l < a.size(); ++l) {
    total += (a[l] * b[l]).sum().item<double>();
  }
  return total;
}

ParameterList to_double(const ParameterList& list) {
  ParameterList result;
  for (const auto& tensor : list) {
    result.push_back(tensor.detach().to(at::kCPU, at::kDouble));
  }
  return result;
}

/// Sums over draws. Deviations for the interval are taken about the mean of a group of draws that
/// fits into memory.
class DrawSums {
 public:
  DrawSums(const GradientSource& source, int64_t group)
      : sum(zeros(source)), squares(zeros(source)), source_(source), group_(group) {}

  void add(ParameterList draw) {
    for (size_t l = 0; l < draw.size(); ++l) {
      sum[l] += draw[l];
      squares[l].addcmul_(draw[l], draw[l]);
    }
    kept_.push_back(std::move(draw));
    if (static_cast<int64_t>(kept_.size()) == group_) {
      close_group();
    }
  }

  void close_group() {
    const auto m = static_cast<double>(kept_.size());
    auto mean = zeros(source_);
    for (const auto& draw : kept_) {
      for (size_t l = 0; l < draw.size(); ++l) {
        mean[l] += draw[l] / m;
      }
    }
    const auto mean_norm = inner(mean, mean);
    for (const auto& draw : kept_) {
      const auto deviation = inner(draw, draw) - 2 * inner(draw, mean) + mean_norm;
      deviations.push_back(std::max(deviation, 0.0) * (m > 1 ? m / (m - 1) : 1.0));
    }
    kept_.clear();
  }

  ParameterList sum, squares;      ///< sum_r e_rj, sum_r e_rj^2
  std::vector<double> deviations;  ///< E of them, each with expectation tr Cov

 private:
  const GradientSource& source_;
  int64_t group_;
  std::vector<ParameterList> kept_;
};

/// Draws whose float64 estimates fit into memory together, `lists` a draw: all of them, or equal
/// groups of at least two.
int64_t group_size(const GradientSource& source, const MeasureOptions& options, int64_t lists) {
  const auto budget = options.max_memory > 0 ? options.max_memory : kDefaultMemory;
  const auto fitting = std::max<int64_t>(2, budget / (8 * source.parameter_count() * lists));
  const auto groups = (options.draws + fitting - 1) / fitting;
  return (options.draws + groups - 1) / groups;
}

/// The mean over E draws of their own, for the paper's protocol.
ParameterList mean_of_draws(GradientSource& source, const GradientEstimator& estimator,
                            int64_t draws, at::Generator& generator) {
  auto mean = zeros(source);
  for (int64_t r = 0; r < draws; ++r) {
    const auto draw = to_double(estimator.estimate(source, estimator.draw(generator)));
    for (size_t l = 0; l < draw.size(); ++l) {
      mean[l] += draw[l] / static_cast<double>(draws);
    }
  }
  return mean;
}

/// sum_r ||e_r - mean||^2 / (E - 1)
double unbiased_trace(const DrawSums& sums, int64_t draws) {
  const auto count = static_cast<double>(draws);
  double trace = 0;
  for (size_t l = 0; l < sums.sum.size(); ++l) {
    const auto scatter = sums.squares[l] - sums.sum[l].square() / count;
    trace += scatter.clamp_min(0).sum().item<double>() / (count - 1);
  }
  return trace;
}

/// Against the plain means of the same draws: what the draws have in common cancels.
void compare_with_plain(const DrawSums& sums, const DrawSums& plain, int64_t draws,
                        Moments& moments) {
  const auto below = unbiased_trace(plain, draws);
  if (!(below > 0)) {
    return;
  }
  const auto deviations = [](const DrawSums& of) { return at::tensor(of.deviations, at::kDouble); };
  moments.variance_ratio = moments.trace_covariance / below;
  const auto interval = ratio_interval(moments.variance_ratio, deviations(sums), deviations(plain));
  moments.variance_ratio_low = interval.low;
  moments.variance_ratio_high = interval.high;
}

Moments faghri_moments(const ParameterList& other_mean, const DrawSums& sums, MomentInputs inputs,
                       int64_t draws) {
  const auto count = static_cast<double>(draws);
  double normalized = 0, parameters = 0;
  ParameterList variance;
  for (size_t l = 0; l < sums.sum.size(); ++l) {
    const auto deviations =
        (sums.squares[l] - other_mean[l] * sums.sum[l] * 2 + other_mean[l].square() * count)
            .clamp_min(0);
    inputs.layer_traces.push_back(deviations.sum().item<double>() / count);
    variance.push_back(deviations / count);
    normalized += (deviations / (sums.squares[l] + kFaghriFloor)).sum().item<double>();
    parameters += static_cast<double>(deviations.numel());
  }
  inputs.squared_gradient_norm = inner(other_mean, other_mean);
  auto moments = make_moments(inputs);
  moments.normalized_variance = normalized / parameters;
  moments.variance = std::move(variance);
  return moments;
}

Moments unbiased_moments(const DrawSums& sums, MomentInputs inputs, int64_t draws) {
  const auto count = static_cast<double>(draws);
  double trace = 0, mean_norm = 0;
  for (size_t l = 0; l < sums.sum.size(); ++l) {
    const auto mean = sums.sum[l] / count;
    auto variance = ((sums.squares[l] - mean * sums.sum[l]) / (count - 1)).clamp_min(0);
    inputs.layer_traces.push_back(variance.sum().item<double>());
    trace += inputs.layer_traces.back();
    mean_norm += mean.square().sum().item<double>();
    inputs.squared_gradient.push_back((mean.square() - variance / count).clamp_min(0));
    inputs.variance.push_back(std::move(variance));
  }
  inputs.squared_gradient_norm = std::max(mean_norm - trace / count, 0.0);
  auto moments = make_moments(inputs);
  const auto parameters = moments.trace_covariance / moments.average_variance;
  const auto deviations = at::tensor(sums.deviations, at::kDouble) * ((count - 1) / count);
  const auto interval =
      log_interval(moments.average_variance,
                   jackknife_variance(deviations) / (parameters * parameters), count - 1);
  moments.interval_low = interval.low;
  moments.interval_high = interval.high;
  return moments;
}

}  // namespace

Moments sampled_moments(GradientSource& source, const GradientEstimator& estimator,
                        const MeasureOptions& options, at::Generator& generator,
                        SampledGradient* gradient) {
  MomentInputs inputs;
  for (const auto& parameter : source.parameters()) {
    inputs.layer_sizes.push_back(parameter.numel());
  }
  ParameterList other_mean;
  if (options.faghri) {
    other_mean = mean_of_draws(source, estimator, options.draws, generator);
  }
  const bool compares = estimator.snapshot() != nullptr && !options.faghri;
  const auto group = group_size(source, options, compares ? 2 : 1);
  DrawSums sums(source, group), plain_sums(source, group);
  for (int64_t r = 0; r < options.draws; ++r) {
    const auto batch = estimator.draw(generator);
    auto plain = source.weighted_gradient(batch.indices, batch.weights);
    if (compares) {
      plain_sums.add(to_double(plain));
    }
    sums.add(to_double(estimator.corrected(source, batch, std::move(plain))));
  }
  sums.close_group();
  auto moments = options.faghri ? faghri_moments(other_mean, sums, inputs, options.draws)
                                : unbiased_moments(sums, inputs, options.draws);
  if (compares) {
    plain_sums.close_group();
    compare_with_plain(sums, plain_sums, options.draws, moments);
  }
  // The mean of minibatches at the snapshot is itself an estimate: how far off, nothing here tells.
  if (estimator.snapshot() != nullptr && !source.separable()) {
    moments.bias_squared = moments.mse = kUndefined;
  }
  moments.gradient_evaluations =
      options.draws * estimator.cost_per_draw() * (options.faghri ? 2 : 1);
  if (gradient != nullptr) {
    for (const auto& sum : sums.sum) {
      gradient->mean.push_back(sum / static_cast<double>(options.draws));
    }
    gradient->squared_norm = moments.mean_squared_norm - moments.trace_covariance;
  }
  return moments;
}

}  // namespace gradist::detail
