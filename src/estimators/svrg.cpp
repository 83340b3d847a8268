#include "estimators/svrg.h"

#include "gradients/accumulator.h"
#include "gradients/visit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/zeros.h>

namespace gradist {

Snapshot take_snapshot(GradientSource& source, int64_t max_memory) {
  const auto examples = source.examples();
  MomentAccumulator sums(source.parameters(),
                         {.visit_weights = {1.0}, .within_weights = {}, .visited = {examples}});
  const std::vector<at::Tensor> all{at::arange(examples, at::kLong)};
  for (const auto& chunk : plan_visit(all, chunk_size(source, max_memory))) {
    const auto batch = source.gradients(chunk.indices);
    sums.add(batch, batch.squared_norms_per_parameter(), chunk.segments);
  }
  Snapshot snapshot;
  snapshot.parameters = copy_parameters(source);
  snapshot.state = source.state();
  for (const auto& sum : sums.sum()) {
    snapshot.gradient.push_back(sum / static_cast<double>(examples));
  }
  snapshot.squares = sums.squares();
  snapshot.squared_norms = sums.squared_norms().sum().item<double>();
  return snapshot;
}

ParameterList gradient_by_minibatches(GradientSource& source, const at::Tensor& order,
                                      int64_t batch_size) {
  ParameterList mean;
  for (const auto& parameter : source.parameters()) {
    mean.push_back(at::zeros(parameter.sizes(), at::kDouble));
  }
  const auto batches = source.examples() / batch_size;
  const auto weights = at::full({batch_size}, 1 / static_cast<double>(batch_size), at::kDouble);
  for (int64_t b = 0; b < batches; ++b) {
    const auto indices = order.slice(0, b * batch_size, (b + 1) * batch_size);
    const auto gradient = source.weighted_gradient(indices, weights);
    for (size_t l = 0; l < gradient.size(); ++l) {
      mean[l] += gradient[l].detach().to(at::kCPU, at::kDouble) / static_cast<double>(batches);
    }
  }
  return mean;
}

Snapshot take_snapshot_by_minibatches(GradientSource& source, int64_t batch_size,
                                      at::Generator& generator) {
  Snapshot snapshot;
  snapshot.parameters = copy_parameters(source);
  snapshot.state = source.state();
  snapshot.order = at::randperm(source.examples(), generator, at::TensorOptions().dtype(at::kLong));
  snapshot.gradient = gradient_by_minibatches(source, snapshot.order, batch_size);
  return snapshot;
}

int64_t Svrg::refresh(GradientSource& source, at::Generator& generator) {
  if (source.separable()) {
    snapshot_ = take_snapshot(source, max_memory_);
    return source.examples();
  }
  const auto batch_size = design_.draws();
  snapshot_ = take_snapshot_by_minibatches(source, batch_size, generator);
  return source.examples() / batch_size * batch_size;
}

}  // namespace gradist
