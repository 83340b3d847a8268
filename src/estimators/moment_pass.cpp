#include "estimators/moment_pass.h"

#include "estimators/difference_sums.h"
#include "estimators/interval.h"
#include "gradients/visit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

namespace gradist::detail {
namespace {

/// ||x_i - mean||^2 about the mean of the example's segment, scaled so that a stratum's deviations
/// add up to (n_k - 1) s_k^2 in expectation also where chunks cut it, [B].
at::Tensor deviations(const GradientBatch& batch, const std::vector<Segment>& segments,
                      const std::vector<at::Tensor>& visited) {
  const auto norms = batch.squared_norms().to(at::kCPU);
  auto result = at::empty_like(norms);
  for (const auto& segment : segments) {
    const auto part = batch.slice(segment.begin, segment.end);
    const auto m = static_cast<double>(part.size());
    const auto n = static_cast<double>(visited[static_cast<size_t>(segment.stratum)].numel());
    ParameterList mean;
    double mean_norm = 0;
    for (const auto& parameter : part.parameters) {
      mean.push_back(parameter.sum() / m);
      mean_norm += mean.back().to(at::kDouble).square().sum().item<double>();
    }
    const auto about_mean =
        norms.slice(0, segment.begin, segment.end) - part.inner(mean).to(at::kCPU) * 2 + mean_norm;
    // An example alone in its segment has no mean to deviate from; from zero is the safe side.
    const auto raw = m > 1 ? about_mean : norms.slice(0, segment.begin, segment.end);
    const double scale = m > 1 ? m / (m - 1) * (n - 1) / n : 1.0;
    result.slice(0, segment.begin, segment.end).copy_(raw.clamp_min(0) * scale);
  }
  return result;
}

double squared_norm(const ParameterList& list) {
  double total = 0;
  for (const auto& tensor : list) {
    total += tensor.square().sum().item<double>();
  }
  return total;
}

/// (n / N) / (n - 1) (N - 1): turns mean square minus squared mean into the population's variance.
double population_factor(int64_t visited, int64_t examples) {
  if (visited == examples) {
    return 1;
  }
  const auto n = static_cast<double>(visited);
  const auto total = static_cast<double>(examples);
  return n / (n - 1) * (total - 1) / total;
}

}  // namespace

MomentPass::MomentPass(GradientSource& source, PassPlan plan, int64_t max_memory)
    : plan_(std::move(plan)) {
  examples_ = std::accumulate(plan_.sizes.begin(), plan_.sizes.end(), int64_t{0});
  for (const auto& stratum : plan_.visited) {
    visited_ += stratum.numel();
  }
  for (const auto& parameter : source.parameters()) {
    layer_sizes_.push_back(parameter.numel());
  }
  indices_ = at::cat(plan_.visited);
  visit(source, max_memory);
}

/// c_k with Var_j = sum_k c_k (Q_kj - S_kj^2 / n_k), see the class comment.
std::vector<double> MomentPass::within_weights() const {
  std::vector<double> weights;
  if (plan_.stratified == nullptr) {
    return weights;
  }
  const auto& design = plan_.stratified->design();
  for (size_t k = 0; k < design.strata.size(); ++k) {
    const auto& stratum = design.strata[k];
    const auto seen = plan_.visited[k].numel();
    if (stratum.draws == 0 || seen < 2) {
      weights.push_back(0);
      continue;
    }
    const auto share = static_cast<double>(plan_.sizes[k]) / static_cast<double>(examples_);
    weights.push_back(share * share / static_cast<double>(stratum.draws) *
                      design.finite_population_factor(stratum) *
                      population_factor(seen, plan_.sizes[k]) / static_cast<double>(seen));
  }
  return weights;
}

MomentAccumulator::Options MomentPass::accumulator_options() const {
  MomentAccumulator::Options options;
  options.within_weights = within_weights();
  for (size_t k = 0; k < plan_.sizes.size(); ++k) {
    const auto seen = plan_.visited[k].numel();
    options.visited.push_back(seen);
    options.visit_weights.push_back(
        seen > 0 ? static_cast<double>(plan_.sizes[k]) / static_cast<double>(seen) : 0.0);
  }
  return options;
}

DifferenceForm MomentPass::difference_form(GradientSource& source) const {
  if (plan_.snapshot == nullptr) {
    return DifferenceForm::kZero;
  }
  const auto form = choose_difference_form(source, *plan_.snapshot);
  // The expanded form's last sum is over all examples, and where the differences of one coordinate
  // are far smaller than those of the others it has no digits of them.
  const bool expandable = plan_.exact && !plan_.per_coordinate;
  return !expandable && form == DifferenceForm::kExpanded ? DifferenceForm::kStable : form;
}

/// 1 / (N_k p_i) of the examples in visiting order, [n]; undefined where all draws are uniform.
/// With it in the squares, Var_j = sum_k c_k (sum_i g_ij^2 / (N_k p_i) - S_kj^2 / N_k).
at::Tensor MomentPass::ratios() const {
  if (plan_.stratified == nullptr || !plan_.stratified->design().has_probabilities()) {
    return {};
  }
  TORCH_INTERNAL_ASSERT(plan_.exact);
  std::vector<at::Tensor> each;
  for (const auto& stratum : plan_.stratified->design().strata) {
    each.push_back(1 / (stratum.probabilities * static_cast<double>(stratum.members.numel())));
  }
  return at::cat(each);
}

void MomentPass::visit(GradientSource& source, int64_t max_memory) {
  MomentAccumulator sums(source.parameters(), accumulator_options());
  const auto form = difference_form(source);
  DifferenceSums difference_sums(source.parameters(), form, visited_,
                                 static_cast<double>(examples_) / static_cast<double>(visited_));

  std::vector<at::Tensor> norms, losses, gradient_deviations, difference_deviations;
  const auto chunks = plan_visit(plan_.visited, chunk_size(source, max_memory));
  const auto of_squares = ratios();
  int64_t begin = 0;
  for (size_t c = 0; c < chunks.size(); ++c) {
    const auto& [indices, segments] = chunks[c];
    const auto batch = source.gradients(indices);
    const auto norms_per_parameter = batch.squared_norms_per_parameter();
    if (of_squares.defined()) {
      const auto part = of_squares.slice(0, begin, begin + batch.size());
      sums.add(batch, batch.scaled(part.sqrt()), norms_per_parameter.to(at::kCPU) * part, segments);
    } else {
      sums.add(batch, norms_per_parameter, segments);
    }
    begin += batch.size();
    norms.push_back(norms_per_parameter.sum(0).to(at::kCPU));
    losses.push_back(batch.losses.to(at::kCPU, at::kDouble));
    if (!plan_.exact) {
      gradient_deviations.push_back(deviations(batch, segments, plan_.visited));
    }
    if (form == DifferenceForm::kZero) {
      continue;
    }
    const auto at_snapshot = [&] {
      const AtSnapshot there(source, *plan_.snapshot);
      return source.gradients(indices);
    }();
    difference_sums.add(batch, at_snapshot, c + 1 == chunks.size());
    if (!plan_.exact) {
      difference_deviations.push_back(
          deviations(batch.difference(at_snapshot), segments, plan_.visited));
    }
  }

  squared_norms_ = at::cat(norms);
  mean_loss_ = at::cat(losses).mean().item<double>();
  finish(sums);
  if (!plan_.exact) {
    gradients_.deviations = at::cat(gradient_deviations);
    differences_.deviations = form == DifferenceForm::kZero ? at::zeros_like(squared_norms_)
                                                            : at::cat(difference_deviations);
  }
  if (plan_.snapshot != nullptr) {
    differences_.squared_norms = difference_sums.squared_norms();
    differences_.sum = difference_sums.sum(gradients_.sum, *plan_.snapshot, examples_);
    differences_.squares = difference_sums.squares(gradients_.squares, *plan_.snapshot);
  }
}

/// Turns the accumulator's sums into the population's, the full gradient and the traces within
/// strata.
void MomentPass::finish(const MomentAccumulator& sums) {
  const auto weights = within_weights();
  const auto n = static_cast<double>(examples_);
  gradients_.sum = sums.sum();
  gradients_.squares = sums.squares();
  stratified_variance_ = sums.within();
  // Var of the mean over the strata's samples, per N_k^2 / N^2 (1 - n_k / N_k) s_k^2 / n_k; zero in
  // an exact pass.
  double mean_variance = 0;
  for (int64_t l = 0; l < sums.squared_norms().size(0); ++l) {
    double trace = 0, squared_norms = 0;
    for (size_t k = 0; k < plan_.sizes.size(); ++k) {
      const auto seen = static_cast<double>(plan_.visited[k].numel());
      if (seen == 0) {
        continue;
      }
      const auto size = static_cast<double>(plan_.sizes[k]);
      const auto column = static_cast<int64_t>(k);
      const auto norms = sums.squared_norms()[l][column].item<double>();
      const auto scatter =
          std::max(norms - sums.stratum_sum_squared_norms()[l][column].item<double>() / seen, 0.0);
      squared_norms += size / seen * norms;
      trace += weights.empty() ? 0.0 : weights[k] * scatter;
      if (seen > 1) {
        mean_variance += size / n * (size / n) * (1 - seen / size) * scatter / (seen - 1) / seen;
      }
    }
    gradients_.squared_norms.push_back(squared_norms);
    stratified_traces_.push_back(trace);
  }

  for (const auto& sum : gradients_.sum) {
    full_gradient_.push_back(sum / n);
  }
  const auto naive = squared_norm(full_gradient_);
  squared_gradient_norm_ = std::max(naive - mean_variance, 0.0);
  // Coordinates share the correction in proportion to their mean squares: the trace is unbiased,
  // each coordinate nearly.
  double mean_square = 0;
  for (const auto& squares : gradients_.squares) {
    mean_square += squares.sum().item<double>() / n;
  }
  const double share = mean_square > 0 ? mean_variance / mean_square : 0.0;
  for (size_t l = 0; l < full_gradient_.size(); ++l) {
    auto squared = full_gradient_[l].square();
    squared_gradient_.push_back(
        share > 0 ? (squared - gradients_.squares[l] * (share / n)).clamp_min(0) : squared);
  }
}

MomentInputs MomentPass::common_inputs() const {
  MomentInputs inputs;
  inputs.squared_gradient = squared_gradient_;
  inputs.squared_gradient_norm = squared_gradient_norm_;
  inputs.layer_sizes = layer_sizes_;
  return inputs;
}

Moments MomentPass::moments(const GradientEstimator& estimator) const {
  auto moments = plan_.stratified == &estimator ? stratified_moments() : uniform_moments(estimator);
  moments.gradient_evaluations = visited_ * (estimator.snapshot() != nullptr ? 2 : 1);
  return moments;
}

Moments MomentPass::uniform_moments(const GradientEstimator& estimator) const {
  TORCH_INTERNAL_ASSERT(estimator.clustering() == nullptr &&
                        estimator.snapshot() == (estimator.snapshot() ? plan_.snapshot : nullptr));
  const auto& population = estimator.snapshot() != nullptr ? differences_ : gradients_;
  const auto& stratum = estimator.design().strata.front();
  const double factor = population_factor(visited_, examples_) /
                        static_cast<double>(stratum.draws) *
                        estimator.design().finite_population_factor(stratum);
  const auto n = static_cast<double>(examples_);
  auto inputs = common_inputs();
  for (size_t l = 0; l < layer_sizes_.size(); ++l) {
    const auto mean = population.sum[l] / n;
    const auto trace = population.squared_norms[l] / n - mean.square().sum().item<double>();
    inputs.layer_traces.push_back(factor * trace);
    inputs.variance.push_back((population.squares[l] / n - mean.square()) * factor);
  }
  auto moments = make_moments(inputs);
  if (!plan_.exact) {
    const auto seen = static_cast<double>(visited_);
    const auto parameters = moments.trace_covariance / moments.average_variance;
    const double weight = factor * (seen - 1) / seen / parameters;
    const auto interval = bootstrap_interval(moments.average_variance,
                                             {{population.deviations, weight, 1 - seen / n}});
    moments.interval_low = interval.low;
    moments.interval_high = interval.high;
  }
  if (estimator.snapshot() != nullptr) {
    compare_with_plain(moments);
  }
  return moments;
}

/// Both variances have the same factor, which cancels.
void MomentPass::compare_with_plain(Moments& moments) const {
  const auto plain = uniform_trace(gradients_);
  if (!(plain > 0)) {
    return;
  }
  moments.variance_ratio = std::max(uniform_trace(differences_), 0.0) / plain;
  if (!plan_.exact) {
    const auto interval =
        ratio_interval(moments.variance_ratio, differences_.deviations, gradients_.deviations,
                       1 - static_cast<double>(visited_) / static_cast<double>(examples_));
    moments.variance_ratio_low = interval.low;
    moments.variance_ratio_high = interval.high;
  }
}

/// mean ||x_i||^2 - ||mean x_i||^2
double MomentPass::uniform_trace(const Population& population) const {
  const auto n = static_cast<double>(examples_);
  double trace = 0;
  for (size_t l = 0; l < layer_sizes_.size(); ++l) {
    trace +=
        population.squared_norms[l] / n - (population.sum[l] / n).square().sum().item<double>();
  }
  return trace;
}

Moments MomentPass::stratified_moments() const {
  auto inputs = common_inputs();
  inputs.layer_traces = stratified_traces_;
  inputs.variance = stratified_variance_;
  auto moments = make_moments(inputs);
  if (!plan_.exact) {
    add_stratified_interval(moments);
  }
  return moments;
}

/// Strata seen whole add no uncertainty. Without others the variance is exact.
void MomentPass::add_stratified_interval(Moments& moments) const {
  const auto weights = within_weights();
  const auto parameters =
      static_cast<double>(std::accumulate(layer_sizes_.begin(), layer_sizes_.end(), int64_t{0}));
  std::vector<StratumSpread> strata;
  int64_t begin = 0;
  for (size_t k = 0; k < plan_.sizes.size(); ++k) {
    const auto seen = plan_.visited[k].numel();
    const auto part = gradients_.deviations.slice(0, begin, begin + seen);
    begin += seen;
    if (weights[k] > 0 && seen < plan_.sizes[k]) {
      const auto n = static_cast<double>(seen);
      strata.push_back(
          {part, weights[k] * (n - 1) / parameters, 1 - n / static_cast<double>(plan_.sizes[k])});
    }
  }
  const auto interval = bootstrap_interval(moments.average_variance, strata);
  moments.interval_low = interval.low;
  moments.interval_high = interval.high;
}

}  // namespace gradist::detail
