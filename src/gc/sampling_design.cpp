#include "gc/sampling_design.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randperm.h>

namespace gradist {

int64_t SamplingDesign::draws() const {
  int64_t total = 0;
  for (const auto& stratum : strata) {
    total += stratum.draws;
  }
  return total;
}

WeightedBatch SamplingDesign::draw(at::Generator& generator) const {
  std::vector<at::Tensor> indices, weights;
  for (const auto& stratum : strata) {
    if (stratum.draws == 0) {
      continue;
    }
    const auto size = stratum.members.numel();
    const auto picks =
        replacement
            ? at::randint(size, {stratum.draws}, generator, at::TensorOptions().dtype(at::kLong))
            : at::randperm(size, generator, at::TensorOptions().dtype(at::kLong))
                  .slice(0, 0, stratum.draws);
    indices.push_back(stratum.members.index_select(0, picks));
    weights.push_back(at::full({stratum.draws}, stratum.weight, at::kDouble));
  }
  return {at::cat(indices), at::cat(weights)};
}

double SamplingDesign::finite_population_factor(const Stratum& stratum) const {
  const auto size = stratum.members.numel();
  if (replacement || stratum.draws <= 1) {
    return 1;
  }
  return static_cast<double>(size - stratum.draws) / static_cast<double>(size - 1);
}

SamplingDesign uniform_design(int64_t examples, int64_t draws, bool replacement) {
  TORCH_CHECK_VALUE(draws >= 1, "draws = ", draws, ": must be >= 1");
  TORCH_CHECK_VALUE(replacement || draws <= examples, "draws = ", draws,
                    ": must be <= the number of examples, ", examples, ", without replacement");
  return {{{at::arange(examples, at::kLong), draws, 1.0 / static_cast<double>(draws)}},
          replacement};
}

SamplingDesign stratified_design(const Clustering& clustering, int64_t draws, bool replacement) {
  const auto allocation = proportional_allocation(clustering.sizes(), draws, replacement);
  const auto examples = static_cast<double>(clustering.examples());
  SamplingDesign design{{}, replacement};
  for (size_t k = 0; k < allocation.size(); ++k) {
    const auto size = static_cast<double>(clustering.sizes()[k]);
    const auto count = allocation[k];
    design.strata.push_back({clustering.members()[k], count,
                             count > 0 ? size / (examples * static_cast<double>(count)) : 0.0});
  }
  return design;
}

}  // namespace gradist
