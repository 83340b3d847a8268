#include "support/oracles.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

namespace gradist::test {
namespace {

/// Every choice of `draws` positions of n: tuples with replacement, ascending subsets without.
void extend(std::vector<std::vector<int64_t>>& choices, std::vector<int64_t>& chosen, int64_t first,
            int64_t draws, int64_t n, bool replacement) {
  if (static_cast<int64_t>(chosen.size()) == draws) {
    choices.push_back(chosen);
    return;
  }
  for (int64_t m = replacement ? 0 : first; m < n; ++m) {
    chosen.push_back(m);
    extend(choices, chosen, m + 1, draws, n, replacement);
    chosen.pop_back();
  }
}

/// Every draw from one stratum, its weights and probability by the definitions of Stratum.
std::vector<PossibleDraw> draws_of(const Stratum& stratum, bool replacement) {
  const auto n = stratum.members.numel();
  std::vector<std::vector<int64_t>> choices;
  std::vector<int64_t> chosen;
  extend(choices, chosen, 0, stratum.draws, n, replacement);
  std::vector<PossibleDraw> draws;
  for (const auto& choice : choices) {
    const auto positions = at::tensor(choice, at::kLong);
    PossibleDraw draw{{stratum.members.index_select(0, positions),
                       at::full({positions.numel()}, stratum.weight, at::kDouble)},
                      1.0 / static_cast<double>(choices.size())};
    if (stratum.probabilities.defined() && positions.numel() > 0) {
      const auto p = stratum.probabilities.index_select(0, positions);
      draw.batch.weights = draw.batch.weights / (p * static_cast<double>(n));
      draw.probability = p.prod().item<double>();
    }
    draws.push_back(std::move(draw));
  }
  return draws;
}

PossibleDraw joined(const PossibleDraw& x, const PossibleDraw& y) {
  return {
      {at::cat({x.batch.indices, y.batch.indices}), at::cat({x.batch.weights, y.batch.weights})},
      x.probability * y.probability};
}

}  // namespace

at::Tensor flatten(const ParameterList& tensors) {
  std::vector<at::Tensor> pieces;
  for (const at::Tensor& tensor : tensors)
    pieces.push_back(tensor.detach().to(at::kDouble).reshape({-1}));
  return at::cat(pieces);
}

at::Tensor dense(const GradientBatch& batch) {
  std::vector<at::Tensor> pieces;
  for (const FactoredGradients& gradients : batch.parameters) {
    pieces.push_back(gradients.dense().to(at::kDouble).reshape({batch.size(), -1}));
  }
  return at::cat(pieces, 1);
}

at::Tensor dense_one_by_one(const std::function<at::Tensor(int64_t)>& loss, int64_t examples,
                            const ParameterList& parameters) {
  std::vector<at::Tensor> rows;
  for (int64_t i = 0; i < examples; ++i) {
    ParameterList gradient =
        torch::autograd::grad({loss(i)}, parameters, {}, /*retain_graph=*/false,
                              /*create_graph=*/false, /*allow_unused=*/true);
    for (size_t l = 0; l < parameters.size(); ++l) {
      if (!gradient[l].defined()) gradient[l] = at::zeros_like(parameters[l]);
    }
    rows.push_back(flatten(gradient));
  }
  return at::stack(rows);
}

std::vector<PossibleDraw> enumerate_draws(const SamplingDesign& design) {
  const PossibleDraw nothing{{at::empty({0}, at::kLong), at::empty({0}, at::kDouble)}, 1.0};
  std::vector<PossibleDraw> draws{nothing};
  for (const Stratum& stratum : design.strata) {
    const auto more = draws_of(stratum, design.replacement);
    std::vector<PossibleDraw> longer;
    for (const PossibleDraw& draw : draws) {
      for (const PossibleDraw& next : more) {
        longer.push_back(joined(draw, next));
      }
    }
    draws = std::move(longer);
  }
  return draws;
}

DenseMoments moments_of(const at::Tensor& rows, const at::Tensor& probabilities) {
  const at::Tensor p = probabilities.unsqueeze(1);
  const at::Tensor mean = (p * rows).sum(0);
  return {mean, (p * (rows - mean).square()).sum(0), (p * rows.square()).sum(0)};
}

DenseNormalizedVariance normalized_variance_of(const DenseMoments& moments) {
  const at::Tensor counted = moments.second_moment != 0;
  const at::Tensor ratio =
      moments.variance.masked_select(counted) / moments.second_moment.masked_select(counted);
  return {ratio.mean().item<double>(), moments.mean.numel() - ratio.numel()};
}

double dense_trace_covariance(const at::Tensor& gradients) {
  return (gradients - gradients.mean(0)).square().sum(1).mean().item<double>();
}

double dense_objective(const at::Tensor& gradients, const at::Tensor& assignments,
                       int64_t clusters) {
  double objective = 0;
  for (int64_t k = 0; k < clusters; ++k) {
    const at::Tensor members = gradients.index({assignments == k});
    if (members.size(0) == 0) continue;
    objective += static_cast<double>(members.size(0)) *
                 (members - members.mean(0)).square().sum().item<double>();
  }
  return objective;
}

}  // namespace gradist::test
