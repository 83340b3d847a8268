#include "estimators/svrg.h"

#include "gradients/accumulator.h"
#include "gradients/visit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>

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
  for (const auto& sum : sums.sum()) {
    snapshot.gradient.push_back(sum / static_cast<double>(examples));
  }
  snapshot.squares = sums.squares();
  snapshot.squared_norms = sums.squared_norms().sum().item<double>();
  return snapshot;
}

int64_t Svrg::refresh(GradientSource& source, at::Generator& /*generator*/) {
  snapshot_ = take_snapshot(source, max_memory_);
  return source.examples();
}

}  // namespace gradist
