#include "gc/guard.h"

#include "gc/objective.h"
#include "gc/sampling_design.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/randperm.h>

#include <limits>
#include <utility>

namespace gradist {
namespace {

/// Random equal partitions meet the bound about every other time where gradients have no structure
/// at all.
constexpr int kMaxCuts = 40;

/// A clustering and what its exact pass said.
struct Judged {
  Clustering clustering;
  double variance = std::numeric_limits<double>::infinity();
  bool accepted = false;  ///< not above SG-B
};

class Judge {
 public:
  Judge(GradientSource& source, const GuardOptions& options) : source_(source), options_(options) {}

  Judged operator()(Clustering clustering) const {
    const auto exact = exact_objective(source_, clustering, options_.max_memory);
    const auto draws = options_.draws > 0 ? options_.draws : clustering.clusters();
    const auto design = stratified_design(clustering, draws, options_.replacement);
    const auto bound = uniform_variance(clustering.examples(), draws, options_.replacement,
                                        exact.trace_covariance);
    clustering.objective = exact.objective;
    clustering.scatter = exact.scatter;
    clustering.parameter_scatter = exact.parameter_scatter;
    clustering.squared_norms = exact.squared_norms;
    const auto variance = stratified_variance(design, exact);
    return {std::move(clustering), variance, variance <= bound};
  }

 private:
  GradientSource& source_;
  GuardOptions options_;
};

}  // namespace

Clustering guarded(GradientSource& source, Clustering candidate, const GuardOptions& options,
                   const ClusteringStep& step, at::Generator& generator) {
  const Judge judge(source, options);
  const auto history = candidate.history;
  auto best = judge(std::move(candidate));
  if (!best.accepted) {
    const auto examples = best.clustering.examples();
    const auto clusters = best.clustering.clusters();
    auto order = at::cat(best.clustering.members());
    for (int cut = 0; cut < kMaxCuts && !best.accepted; ++cut) {
      auto balanced = judge(balanced_clustering(order, clusters, options.draws));
      if (balanced.accepted || balanced.variance < best.variance) {
        best = std::move(balanced);
      }
      order = at::randperm(examples, generator, at::TensorOptions().dtype(at::kLong));
    }
    for (bool lower = true; lower;) {
      auto next = judge(step(best.clustering));
      lower = next.variance < best.variance;
      if (lower) {
        best = std::move(next);
      }
    }
  }
  best.clustering.history = history;
  return std::move(best.clustering);
}

}  // namespace gradist
