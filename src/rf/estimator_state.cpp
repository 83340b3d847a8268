#include "rf/estimator_state.h"

#include "choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace gradist::rf {

namespace {

std::vector<double> mixed_probabilities(const std::vector<double>& squared_norms, double mix) {
  const auto uniform = 1 / static_cast<double>(squared_norms.size());
  std::vector<double> probabilities(squared_norms.size());
  std::transform(squared_norms.begin(), squared_norms.end(), probabilities.begin(),
                 [](double square) { return std::sqrt(square); });
  const double total = std::accumulate(probabilities.begin(), probabilities.end(), 0.0);
  for (double& p : probabilities) {
    p = total > 0 ? (1 - mix) * p / total + mix * uniform : uniform;
  }
  return probabilities;
}

}  // namespace

const std::vector<std::string>& estimator_names() {
  static const std::vector<std::string> names = {"sg-b", "sg-2b",      "svrg",
                                                 "gc",   "gc-descent", "sg-importance"};
  return names;
}

EstimatorKind estimator_by_name(const std::string& name) {
  return choice_by_name<EstimatorKind>("estimator", estimator_names(), name);
}

template <class T>
EstimatorState refreshed(EstimatorKind kind, const Problem<T>& problem,
                         const std::vector<double>& residuals, const std::vector<double>& row_norms,
                         const RefreshOptions& options, Words random) {
  EstimatorState state;
  state.kind = kind;
  if (kind == EstimatorKind::kSvrg) {
    state.snapshot_residuals = residuals;
  }
  if (kind == EstimatorKind::kSgB || kind == EstimatorKind::kSg2B || kind == EstimatorKind::kSvrg) {
    return state;
  }
  const RankOneGradients<T> gradients(problem, residuals, row_norms);
  if (kind == EstimatorKind::kSgImportance) {
    state.probabilities = mixed_probabilities(gradients.squared_norms, options.importance_mix);
  } else if (kind == EstimatorKind::kGc) {
    state.clusters = lloyd(gradients, options.clusters, options.gc_iterations, random);
  } else {
    state.clusters = descent(gradients, options.clusters, options.gc_iterations, random);
  }
  return state;
}

template EstimatorState refreshed(EstimatorKind, const Problem<float>&, const std::vector<double>&,
                                  const std::vector<double>&, const RefreshOptions&, Words);
template EstimatorState refreshed(EstimatorKind, const Problem<double>&, const std::vector<double>&,
                                  const std::vector<double>&, const RefreshOptions&, Words);

}  // namespace gradist::rf
