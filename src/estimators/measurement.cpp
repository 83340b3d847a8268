#include "estimators/measurement.h"

#include "estimators/moment_pass.h"
#include "estimators/sampled_moments.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/randperm.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <numeric>

namespace gradist {
namespace {

using Estimators = std::vector<const GradientEstimator*>;
using detail::MomentPass;
using detail::PassPlan;

/// A stratum that is not visited whole is seen by at least this many examples: three give a
/// jackknife, four a useful one.
constexpr int64_t kMinSeen = 4;

void check_refreshed(const GradientEstimator& estimator) {
  const auto* snapshot = estimator.snapshot();
  const bool refreshed =
      !estimator.design().strata.empty() && (snapshot == nullptr || !snapshot->parameters.empty());
  TORCH_CHECK_VALUE(refreshed, estimator.name(), " is measured only after its first refresh");
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Adds an estimator's moments to the measurement, without what was not asked for.
void keep(Moments moments, double seconds, const MeasureOptions& options,
          Measurement& measurement) {
  moments.seconds = seconds;
  if (!options.per_coordinate) {
    moments.variance.clear();
  }
  measurement.moments.push_back(std::move(moments));
}

/// n_k of a stratified sample of n: min(N_k, 4) each, the rest in proportion to N_k.
std::vector<int64_t> subset_allocation(const std::vector<int64_t>& sizes, int64_t n) {
  const auto examples = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  std::vector<int64_t> seen;
  for (const auto size : sizes) {
    seen.push_back(std::min(size, kMinSeen));
  }
  const auto least = std::accumulate(seen.begin(), seen.end(), int64_t{0});
  TORCH_CHECK_VALUE(n >= least, "measure-examples = ", n, ": must be >= ", least, ", up to ",
                    kMinSeen, " examples of every cluster");
  // Proportional shares rounded down, then the remainder one by one from the largest cluster down.
  auto rest = n - least;
  const auto open = static_cast<double>(examples - least);
  for (size_t k = 0; k < sizes.size() && open > 0; ++k) {
    const auto share = static_cast<int64_t>(static_cast<double>(n - least) *
                                            static_cast<double>(sizes[k] - seen[k]) / open);
    rest -= share;
    seen[k] += share;
  }
  for (; rest > 0; --rest) {
    const auto missing = [&](size_t k) { return sizes[k] - seen[k]; };
    size_t most = 0;
    for (size_t k = 1; k < sizes.size(); ++k) {
      most = missing(k) > missing(most) ? k : most;
    }
    ++seen[most];
  }
  return seen;
}

at::Tensor sample(const at::Tensor& members, int64_t n, at::Generator& generator) {
  const auto picks =
      at::randperm(members.numel(), generator, at::TensorOptions().dtype(at::kLong)).slice(0, 0, n);
  return std::get<0>(members.index_select(0, picks).sort());
}

/// Runs the passes that serve `estimators` between them, at most one clustering and one snapshot
/// each.
class PassRunner {
 public:
  PassRunner(GradientSource& source, const Estimators& estimators, const MeasureOptions& options,
             at::Generator& generator)
      : source_(source), options_(options), generator_(generator) {
    for (const auto* estimator : estimators) {
      TORCH_INTERNAL_ASSERT(!(estimator->clustering() && estimator->snapshot()));
      if (estimator->design().has_probabilities()) {
        importance_.push_back(estimator);
      } else if (estimator->clustering() != nullptr) {
        clustered_.push_back(estimator);
      } else if (estimator->snapshot() != nullptr) {
        snapshots_.push_back(estimator);
      }
    }
  }

  Measurement run(const Estimators& estimators) {
    options_.mode == MeasureMode::kExact ? run_exact(estimators.size() - importance_.size())
                                         : run_subset(estimators);
    Measurement measurement;
    for (const auto* estimator : estimators) {
      const auto& [pass, seconds] = serving(*estimator);
      keep(pass->moments(*estimator), seconds, options_, measurement);
    }
    const auto& first = *passes_.front().pass;
    measurement.full_gradient = first.full_gradient();
    measurement.squared_gradient_norm = first.squared_gradient_norm();
    measurement.squared_norms = first.squared_norms();
    if (options_.mode == MeasureMode::kExact) {
      measurement.squared_norms = at::empty_like(first.squared_norms())
                                      .index_copy_(0, first.indices(), first.squared_norms());
      measurement.mean_loss = first.mean_loss();
    }
    return measurement;
  }

 private:
  struct TimedPass {
    std::unique_ptr<MomentPass> pass;
    double seconds = 0;
  };

  void run_exact(size_t plain) {
    const auto count = std::max({std::min<size_t>(plain, 1), clustered_.size(), snapshots_.size()});
    for (size_t p = 0; p < count; ++p) {
      const auto* stratified = p < clustered_.size() ? clustered_[p] : nullptr;
      auto plan = stratified ? PassPlan{stratified->clustering()->members(),
                                        stratified->clustering()->sizes(), stratified}
                             : uniform_plan(source_.examples());
      if (p < snapshots_.size()) {
        plan.snapshot = snapshots_[p]->snapshot();
        by_estimator_[snapshots_[p]] = p;
      }
      by_estimator_[stratified] = p;
      add_pass(std::move(plan));
    }
    // Their squares are weighted, so these passes serve nobody else.
    for (const auto* estimator : importance_) {
      PassPlan plan{{}, {}, estimator};
      for (const auto& stratum : estimator->design().strata) {
        plan.visited.push_back(stratum.members);
        plan.sizes.push_back(stratum.members.numel());
      }
      by_estimator_[estimator] = passes_.size();
      add_pass(std::move(plan));
    }
  }

  void run_subset(const Estimators& estimators) {
    const auto examples = source_.examples();
    TORCH_CHECK_VALUE(importance_.empty(), "measure = subset: must be exact or sampled for ",
                      importance_.front()->name());
    TORCH_CHECK_VALUE(options_.examples >= 3 && options_.examples <= examples,
                      "measure-examples = ", options_.examples, ": must lie in [3, ", examples,
                      "], the number of examples");
    const auto uniform =
        std::max(snapshots_.size(), clustered_.size() < estimators.size() ? size_t{1} : size_t{0});
    for (size_t p = 0; p < uniform; ++p) {
      auto plan = uniform_plan(options_.examples);
      if (p < snapshots_.size()) {
        plan.snapshot = snapshots_[p]->snapshot();
        by_estimator_[snapshots_[p]] = p;
      }
      add_pass(std::move(plan));
    }
    for (const auto* estimator : clustered_) {
      const auto& clustering = *estimator->clustering();
      const auto seen = subset_allocation(clustering.sizes(), options_.examples);
      PassPlan plan{{}, clustering.sizes(), estimator};
      plan.exact = options_.examples == examples;
      for (size_t k = 0; k < seen.size(); ++k) {
        plan.visited.push_back(sample(clustering.members()[k], seen[k], generator_));
      }
      by_estimator_[estimator] = passes_.size();
      add_pass(std::move(plan));
    }
  }

  PassPlan uniform_plan(int64_t n) {
    const auto all = at::arange(source_.examples(), at::kLong);
    PassPlan plan{{}, {source_.examples()}};
    plan.exact = n == source_.examples();
    plan.visited.push_back(plan.exact ? all : sample(all, n, generator_));
    return plan;
  }

  void add_pass(PassPlan plan) {
    const auto start = std::chrono::steady_clock::now();
    plan.per_coordinate = options_.per_coordinate;
    auto pass = std::make_unique<MomentPass>(source_, std::move(plan), options_.max_memory);
    passes_.push_back({std::move(pass), seconds_since(start)});
  }

  const TimedPass& serving(const GradientEstimator& estimator) const {
    const auto found = by_estimator_.find(&estimator);
    return passes_[found == by_estimator_.end() ? 0 : found->second];
  }

  GradientSource& source_;
  const MeasureOptions& options_;
  at::Generator& generator_;
  Estimators clustered_, snapshots_, importance_;
  std::vector<TimedPass> passes_;
  std::map<const GradientEstimator*, size_t>
      by_estimator_;  ///< others are served by the first pass
};

Measurement measure_sampled(GradientSource& source, const Estimators& estimators,
                            const MeasureOptions& options, at::Generator& generator) {
  TORCH_CHECK_VALUE(options.draws >= 3, "draws = ", options.draws, ": must be >= 3");
  Measurement measurement;
  detail::SampledGradient best;
  double least = std::numeric_limits<double>::infinity();
  for (const auto* estimator : estimators) {
    const auto start = std::chrono::steady_clock::now();
    detail::SampledGradient gradient;
    auto moments = sampled_moments(source, *estimator, options, generator, &gradient);
    // The estimator of least variance has the best word on the full gradient.
    if (moments.trace_covariance < least) {
      least = moments.trace_covariance;
      best = std::move(gradient);
    }
    keep(std::move(moments), seconds_since(start), options, measurement);
  }
  measurement.full_gradient = std::move(best.mean);
  measurement.squared_gradient_norm = best.squared_norm;
  return measurement;
}

}  // namespace

Measurement measure(GradientSource& source, const std::vector<const GradientEstimator*>& estimators,
                    const MeasureOptions& options, at::Generator& generator) {
  TORCH_CHECK_VALUE(!estimators.empty(), "estimator: at least one is needed");
  for (const auto* estimator : estimators) {
    check_refreshed(*estimator);
  }
  if (options.mode == MeasureMode::kSampled) {
    return measure_sampled(source, estimators, options, generator);
  }
  TORCH_CHECK_VALUE(source.separable(),
                    "measure: must be sampled where examples do not separate, as by batch norm in "
                    "train mode");
  return PassRunner(source, estimators, options, generator).run(estimators);
}

}  // namespace gradist
