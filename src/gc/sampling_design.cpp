#include "gc/sampling_design.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/multinomial.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randperm.h>

#include <algorithm>

namespace gradist {

int64_t SamplingDesign::draws() const {
  int64_t total = 0;
  for (const auto& stratum : strata) {
    total += stratum.draws;
  }
  return total;
}

bool SamplingDesign::has_probabilities() const {
  return std::any_of(strata.begin(), strata.end(),
                     [](const Stratum& stratum) { return stratum.probabilities.defined(); });
}

bool SamplingDesign::is_uniform() const { return strata.size() == 1 && !has_probabilities(); }

WeightedBatch SamplingDesign::draw(at::Generator& generator) const {
  std::vector<at::Tensor> indices, weights;
  for (const auto& stratum : strata) {
    if (stratum.draws == 0) {
      continue;
    }
    const auto size = stratum.members.numel();
    if (stratum.probabilities.defined()) {
      const auto picks =
          at::multinomial(stratum.probabilities, stratum.draws, /*replacement=*/true, generator);
      indices.push_back(stratum.members.index_select(0, picks));
      weights.push_back(stratum.weight / static_cast<double>(size) /
                        stratum.probabilities.index_select(0, picks));
      continue;
    }
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

SamplingDesign stratified_design(const Clustering& clustering, int64_t draws, bool replacement,
                                 Allocation allocation) {
  const auto allocated =
      allocate(allocation, clustering.sizes(), clustering.scatter, draws, replacement);
  const auto examples = static_cast<double>(clustering.examples());
  SamplingDesign design{{}, replacement};
  for (size_t k = 0; k < allocated.size(); ++k) {
    const auto size = static_cast<double>(clustering.sizes()[k]);
    const auto count = allocated[k];
    design.strata.push_back({clustering.members()[k], count,
                             count > 0 ? size / (examples * static_cast<double>(count)) : 0.0});
  }
  return design;
}

SamplingDesign with_importance(SamplingDesign design, const at::Tensor& squared_norms, double mix) {
  TORCH_CHECK_VALUE(mix > 0 && mix <= 1, "importance-mix = ", mix, ": must lie in (0, 1]");
  TORCH_CHECK_VALUE(design.replacement,
                    "replacement = no: must be yes where examples are drawn by "
                    "the norms of their gradients");
  const auto norms = squared_norms.to(at::kDouble).sqrt();
  const auto mean = norms.mean().item<double>();
  for (auto& stratum : design.strata) {
    const auto own = norms.index_select(0, stratum.members);
    const auto likely = mean > 0 ? own * ((1 - mix) / mean) + mix : at::ones_like(own);
    stratum.probabilities = likely / likely.sum();
  }
  return design;
}

}  // namespace gradist
