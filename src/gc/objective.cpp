#include "gc/objective.h"

#include "gradients/accumulator.h"
#include "gradients/visit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

namespace gradist {

ExactObjective exact_objective(GradientSource& source, const Clustering& clustering,
                               int64_t max_memory) {
  const auto strata = clustering.members().size();
  MomentAccumulator sums(source.parameters(), {.visit_weights = std::vector<double>(strata, 1.0),
                                               .within_weights = {},
                                               .visited = clustering.sizes(),
                                               .per_coordinate_squares = false});
  ExactObjective exact;
  exact.squared_norms = at::empty({clustering.examples()}, at::kDouble);
  for (const auto& chunk : plan_visit(clustering.members(), chunk_size(source, max_memory))) {
    const auto batch = source.gradients(chunk.indices);
    const auto norms = batch.squared_norms_per_parameter().to(at::kCPU);
    sums.add(batch, norms, chunk.segments);
    exact.squared_norms.index_copy_(0, chunk.indices, norms.sum(0));
  }
  const auto sizes = at::tensor(clustering.sizes(), at::kLong).to(at::kDouble);
  exact.parameter_scatter =
      (sums.squared_norms() * sizes - sums.stratum_sum_squared_norms()).clamp_min(0);
  const auto norms = sums.squared_norms().sum(0);
  const auto sum_norms = sums.stratum_sum_squared_norms().sum(0);
  for (size_t k = 0; k < strata; ++k) {
    const auto column = static_cast<int64_t>(k);
    const auto size = static_cast<double>(clustering.sizes()[k]);
    exact.scatter.push_back(
        std::max(size * norms[column].item<double>() - sum_norms[column].item<double>(), 0.0));
    exact.objective += exact.scatter.back();
  }
  const auto examples = static_cast<double>(clustering.examples());
  double total_norm = 0;
  for (const auto& sum : sums.sum()) {
    total_norm += sum.square().sum().item<double>();
  }
  exact.trace_covariance =
      std::max(norms.sum().item<double>() / examples - total_norm / (examples * examples), 0.0);
  return exact;
}

double stratified_variance(const SamplingDesign& design, const ExactObjective& exact) {
  TORCH_INTERNAL_ASSERT(design.strata.size() == exact.scatter.size());
  double examples = 0;
  for (const auto& stratum : design.strata) {
    examples += static_cast<double>(stratum.members.numel());
  }
  double variance = 0;
  for (size_t k = 0; k < design.strata.size(); ++k) {
    const auto& stratum = design.strata[k];
    if (stratum.draws > 0) {
      variance += exact.scatter[k] / static_cast<double>(stratum.draws) *
                  design.finite_population_factor(stratum);
    }
  }
  return variance / (examples * examples);
}

double uniform_variance(int64_t examples, int64_t draws, bool replacement,
                        double trace_covariance) {
  const auto n = static_cast<double>(examples);
  const auto b = static_cast<double>(draws);
  const double factor = replacement || draws == 1 ? 1.0 : (n - b) / (n - 1);
  return trace_covariance / b * factor;
}

}  // namespace gradist
