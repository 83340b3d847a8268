#include "gc/rank1_centers.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>

namespace gradist {

at::Tensor Rank1Centers::squared_distances(const GradientBatch& batch) const {
  auto distances = at::zeros({batch.size(), clusters()}, at::kDouble);
  auto center_norms = at::zeros({clusters()}, at::kDouble);
  for (size_t l = 0; l < parameters.size(); ++l) {
    const auto& [input_side, output_side] = parameters[l];
    const auto inner = batch.parameters[l].inner_rank1(input_side, output_side);
    distances.sub_(inner.to(at::kCPU, at::kDouble), 2);
    const auto norms =
        input_side.to(at::kDouble).square().sum(1) * output_side.to(at::kDouble).square().sum(1);
    center_norms += norms.to(at::kCPU);
  }
  const auto norms = batch.squared_norms().to(at::kCPU);
  return distances.add_(norms.unsqueeze(1)).add_(center_norms).clamp_min_(0);
}

void Rank1Centers::replace(int64_t k, const Rank1Centers& other, int64_t from) {
  for (size_t l = 0; l < parameters.size(); ++l) {
    parameters[l].input_side.select(0, k).copy_(other.parameters[l].input_side.select(0, from));
    parameters[l].output_side.select(0, k).copy_(other.parameters[l].output_side.select(0, from));
  }
}

CenterUpdate::CenterUpdate(const GradientBatch& like, int64_t clusters)
    : sizes_(at::zeros({clusters}, at::kDouble)) {
  for (const auto& parameter : like.parameters) {
    sums_.push_back({at::zeros({clusters, parameter.inputs()}, at::kDouble),
                     at::zeros({clusters, parameter.outputs()}, at::kDouble)});
    options_.push_back(parameter.backprops().options());
  }
}

void CenterUpdate::add(const GradientBatch& batch, const at::Tensor& assignments) {
  sizes_.index_add_(0, assignments, at::ones_like(assignments, at::kDouble));
  for (size_t l = 0; l < sums_.size(); ++l) {
    const auto& gradients = batch.parameters[l];
    sums_[l].input_side.index_add_(0, assignments,
                                   gradients.activations().mean(1).to(at::kCPU, at::kDouble));
    sums_[l].output_side.index_add_(0, assignments,
                                    gradients.backprops().sum(1).to(at::kCPU, at::kDouble));
  }
}

Rank1Centers CenterUpdate::centers(const Rank1Centers* former) const {
  Rank1Centers result;
  const auto counts = sizes_.clamp_min(1).unsqueeze(1);
  const auto empty = (sizes_ == 0).unsqueeze(1);
  for (size_t l = 0; l < sums_.size(); ++l) {
    auto input_side = (sums_[l].input_side / counts).to(options_[l]);
    auto output_side = (sums_[l].output_side / counts).to(options_[l]);
    if (former != nullptr) {
      const auto keep = empty.to(input_side.device());
      input_side = at::where(keep, former->parameters[l].input_side, input_side);
      output_side = at::where(keep, former->parameters[l].output_side, output_side);
    }
    result.parameters.push_back({input_side, output_side});
  }
  return result;
}

}  // namespace gradist
