#include "rf/sampled_estimates.h"

#include "rf/kernels.h"

#include <Eigen/Core>

#include <algorithm>
#include <numeric>

namespace gradist::rf {

namespace {

using Numbers = Eigen::ArrayXd;

constexpr double kBelowTheLine = 1e-7;  // of the paper's normalized variance

/// Members of each cluster.
std::vector<std::vector<int32_t>> members_of(const Partition& clusters) {
  std::vector<std::vector<int32_t>> members(clusters.sizes.size());
  for (size_t i = 0; i < clusters.assignments.size(); ++i) {
    members[static_cast<size_t>(clusters.assignments[i])].push_back(static_cast<int32_t>(i));
  }
  return members;
}

Draw one_of_each(const Partition& clusters, Words& random) {
  Draw draw;
  const auto n = static_cast<double>(clusters.assignments.size());
  for (const auto& members : members_of(clusters)) {
    if (!members.empty()) {
      draw.examples.push_back(members[random.below(static_cast<uint32_t>(members.size()))]);
      draw.weights.push_back(static_cast<double>(members.size()) / n);
    }
  }
  return draw;
}

Draw by_probability(const std::vector<double>& p, int64_t draws, Words& random) {
  std::vector<double> running(p.size());
  std::partial_sum(p.begin(), p.end(), running.begin());
  Draw draw;
  const double scale = static_cast<double>(p.size()) * static_cast<double>(draws);
  for (int64_t b = 0; b < draws; ++b) {
    const auto place =
        std::upper_bound(running.begin(), running.end() - 1, random.uniform() * running.back());
    const auto i = static_cast<size_t>(place - running.begin());
    draw.examples.push_back(static_cast<int32_t>(i));
    draw.weights.push_back(1 / (scale * p[i]));
  }
  return draw;
}

/// All E estimates of an estimator, a row each, in float64.
template <class T>
class Sampler {
 public:
  Sampler(const Problem<T>& problem, const std::vector<double>& residuals,
          const EstimatorState& state, int64_t batch_size)
      : problem_(problem), residuals_(residuals), state_(state), batch_size_(batch_size) {
    if (state.kind == EstimatorKind::kSvrg) {
      snapshot_gradient_ = Rows<T>(1, problem.parameters());
      const auto n = static_cast<double>(problem.examples());
      std::vector<T> weights(state.snapshot_residuals.size());
      std::transform(state.snapshot_residuals.begin(), state.snapshot_residuals.end(),
                     weights.begin(), [n](double r) { return static_cast<T>(r / n); });
      combine(problem.index, weights, snapshot_gradient_);
    }
  }

  Numbers estimate(Words& random) const {
    const Draw batch = draw(state_, problem_.examples(), batch_size_, random);
    std::vector<int32_t> rows;
    std::vector<T> weights;
    for (size_t b = 0; b < batch.examples.size(); ++b) {
      const auto i = static_cast<size_t>(batch.examples[b]);
      const double subtracted =
          state_.snapshot_residuals.empty() ? 0 : state_.snapshot_residuals[i];
      rows.push_back(problem_.index[i]);
      weights.push_back(static_cast<T>(batch.weights[b] * (residuals_[i] - subtracted)));
    }
    Rows<T> sum = snapshot_gradient_.count() > 0 ? snapshot_gradient_.copy()
                                                 : Rows<T>(1, problem_.parameters());
    combine(rows, weights, sum);
    return Eigen::Map<const Eigen::Array<T, Eigen::Dynamic, 1>>(sum.data(), problem_.parameters())
        .template cast<double>();
  }

 private:
  void combine(const std::vector<int32_t>& rows, const std::vector<T>& weights,
               Rows<T>& sum) const {
    detail::row_kernels<T>(detail::kernels())
        .combine(problem_.psi->data(), problem_.psi->stride(), rows.data(),
                 static_cast<int64_t>(rows.size()), weights.data(), T{1}, sum.data());
  }

  const Problem<T>& problem_;
  const std::vector<double>& residuals_;
  const EstimatorState& state_;
  int64_t batch_size_;
  Rows<T> snapshot_gradient_;
};

}  // namespace

Draw draw(const EstimatorState& state, int64_t examples, int64_t batch_size, Words& random) {
  if (state.kind == EstimatorKind::kGc || state.kind == EstimatorKind::kGcDescent) {
    return one_of_each(state.clusters, random);
  }
  if (state.kind == EstimatorKind::kSgImportance) {
    return by_probability(state.probabilities, batch_size, random);
  }
  const int64_t draws = state.kind == EstimatorKind::kSg2B ? 2 * batch_size : batch_size;
  Draw made;
  for (int64_t b = 0; b < draws; ++b) {
    made.examples.push_back(static_cast<int32_t>(random.below(static_cast<uint32_t>(examples))));
    made.weights.push_back(1 / static_cast<double>(draws));
  }
  return made;
}

template <class T>
Moments sampled_moments(const Problem<T>& problem, const std::vector<double>& residuals,
                        const EstimatorState& state, const SampledOptions& options, Words& random) {
  const Sampler<T> sampler(problem, residuals, state, options.draws.batch_size);
  const auto count = static_cast<double>(options.estimates);
  const auto mean_of_more = [&] {
    Numbers mean = Numbers::Zero(problem.parameters());
    for (int64_t e = 0; e < options.estimates; ++e) {
      mean += sampler.estimate(random);
    }
    return Numbers(mean / count);
  };
  const Numbers others = options.faghri ? mean_of_more() : Numbers();
  Numbers mean = Numbers::Zero(problem.parameters());
  Numbers about_mean = Numbers::Zero(problem.parameters());  // Welford's sums
  Numbers about_others = Numbers::Zero(problem.parameters());
  Numbers squares = Numbers::Zero(problem.parameters());
  for (int64_t e = 0; e < options.estimates; ++e) {
    const Numbers estimate = sampler.estimate(random);
    const Numbers before = estimate - mean;
    mean += before / static_cast<double>(e + 1);
    about_mean += before * (estimate - mean);
    squares += estimate.square();
    if (options.faghri) {
      about_others += (estimate - others).square();
    }
  }
  const Numbers variance =
      options.faghri ? Numbers(about_others / count) : Numbers(about_mean / (count - 1));
  // ||g||^2 without the variance of the mean, as estimators/sampled_moments.h has it.
  const Numbers squared_gradient = options.faghri
                                       ? Numbers(others.square())
                                       : Numbers((mean.square() - variance / count).max(0));
  const double signal = options.faghri
                            ? others.square().sum()
                            : std::max(mean.square().sum() - variance.sum() / count, 0.0);
  Moments moments = moments_of_coordinates({variance.begin(), variance.end()},
                                           {squared_gradient.begin(), squared_gradient.end()},
                                           options.draws.logits, signal);
  if (options.faghri) {
    moments.normalized_variance = (about_others / (squares + kBelowTheLine)).mean();
  }
  const int64_t draws = (options.faghri ? 2 : 1) * options.estimates;
  moments.gradient_evaluations = draws * options.draws.batch_size;
  return moments;
}

template Moments sampled_moments(const Problem<float>&, const std::vector<double>&,
                                 const EstimatorState&, const SampledOptions&, Words&);
template Moments sampled_moments(const Problem<double>&, const std::vector<double>&,
                                 const EstimatorState&, const SampledOptions&, Words&);

}  // namespace gradist::rf
