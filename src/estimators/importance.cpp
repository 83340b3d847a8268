#include "estimators/importance.h"

#include "gradients/visit.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>

#include <vector>

namespace gradist {

int64_t Importance::refresh(GradientSource& source, at::Generator& /*generator*/) {
  std::vector<at::Tensor> norms;
  const auto all = at::arange(source.examples(), at::kLong);
  for (const auto& indices : all.split(chunk_size(source, max_memory_))) {
    norms.push_back(source.gradients(indices).squared_norms().to(at::kCPU));
  }
  design_ = with_importance(uniform_design(source.examples(), draws_, /*replacement=*/true),
                            at::cat(norms), mix_);
  return source.examples();
}

}  // namespace gradist
