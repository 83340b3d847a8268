#include "gradients/one_by_one.h"

#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/autograd.h>

namespace gradist {

std::vector<FactoredGradients> one_by_one(const std::function<at::Tensor(int64_t)>& loss_of_example,
                                          int64_t examples, const ParameterList& parameters) {
  std::vector<std::vector<at::Tensor>> rows(parameters.size());
  for (int64_t i = 0; i < examples; ++i) {
    const auto gradients =
        torch::autograd::grad({loss_of_example(i).sum()}, parameters, {}, /*retain_graph=*/false,
                              /*create_graph=*/false, /*allow_unused=*/true);
    for (size_t l = 0; l < parameters.size(); ++l) {
      const auto& gradient = gradients[l];
      rows[l].push_back(!gradient.defined()    ? at::zeros_like(parameters[l])
                        : gradient.is_sparse() ? gradient.to_dense()
                                               : gradient);
    }
  }
  std::vector<FactoredGradients> formed;
  for (size_t l = 0; l < parameters.size(); ++l) {
    formed.push_back(FactoredGradients::from_dense(at::stack(rows[l]).detach(),
                                                   parameters[l].sizes().vec(), "one-by-one"));
  }
  return formed;
}

}  // namespace gradist
