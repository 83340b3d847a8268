#include "gc/factored_centers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace gradist {
namespace {

/// Entries of the gradients that are formed at a time: 64 MiB in float32.
constexpr int64_t kMaxFormed = int64_t{1} << 24;

/// <g_i, C_k> with both sides formed, a tile of examples at a time, [B, K].
at::Tensor inner_formed(const FactoredGradients& gradients, const at::Tensor& centers) {
  const auto columns = centers.flatten(1).t();
  const auto tile = std::max<int64_t>(1, kMaxFormed / columns.size(0));
  std::vector<at::Tensor> products;
  for (int64_t begin = 0; begin < gradients.size(); begin += tile) {
    const auto part = gradients.slice(begin, std::min(begin + tile, gradients.size()));
    products.push_back(at::mm(part.dense().reshape({part.size(), columns.size(0)}), columns));
  }
  return at::cat(products);
}

/// <g_i, C_k>, [B, K]. The terms of higher rank are rank-1 matrices side by side, S K R (I + O), as
/// long as forming the C_k does not cost less, (S + K) I O.
at::Tensor inner(const FactoredGradients& gradients, const FactoredCenters::Factors& centers) {
  const auto clusters = centers.input_side.size(0), rank = centers.input_side.size(1);
  const auto S = gradients.positions(), I = gradients.inputs(), O = gradients.outputs();
  if (rank > 1 && S * clusters * rank * (I + O) > (S + clusters) * I * O) {
    return inner_formed(gradients, centers.formed());
  }
  return gradients.inner_rank1(centers.input_side.flatten(0, 1), centers.output_side.flatten(0, 1))
      .view({gradients.size(), clusters, rank})
      .sum(2);
}

}  // namespace

at::Tensor FactoredCenters::Factors::formed() const {
  return at::bmm(output_side.transpose(1, 2), input_side);
}

at::Tensor FactoredCenters::squared_norms() const {
  auto norms = at::zeros({clusters()}, at::kDouble);
  for (const auto& [input_side, output_side] : parameters) {
    const auto terms =
        input_side.to(at::kDouble).square().sum(2) * output_side.to(at::kDouble).square().sum(2);
    norms += terms.sum(1).to(at::kCPU);
  }
  return norms;
}

at::Tensor FactoredCenters::squared_distances(const GradientBatch& batch,
                                              const at::Tensor& center_norms) const {
  auto distances = at::zeros({batch.size(), clusters()}, at::kDouble);
  for (size_t l = 0; l < parameters.size(); ++l) {
    const auto products = inner(batch.parameters[l], parameters[l]);
    distances.sub_(products.to(at::kCPU, at::kDouble), 2);
  }
  const auto norms = batch.squared_norms().to(at::kCPU);
  return distances.add_(norms.unsqueeze(1)).add_(center_norms).clamp_min_(0);
}

void FactoredCenters::replace(int64_t k, const FactoredCenters& other, int64_t from) {
  for (size_t l = 0; l < parameters.size(); ++l) {
    parameters[l].input_side.select(0, k).copy_(other.parameters[l].input_side.select(0, from));
    parameters[l].output_side.select(0, k).copy_(other.parameters[l].output_side.select(0, from));
  }
  weights.select(0, k).copy_(other.weights.select(0, from));
}

}  // namespace gradist
