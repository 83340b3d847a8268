#include "models/losses.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

namespace gradist {
namespace {

/// Classes as one-hot vectors, numbers as they are: a tensor like `outputs`.
at::Tensor target_vectors(const at::Tensor& outputs, const at::Tensor& targets) {
  if (targets.is_floating_point()) return targets.view_as(outputs);
  return at::zeros_like(outputs).scatter_(1, targets.unsqueeze(1), 1);
}

}  // namespace

at::Tensor example_losses(Loss loss, const at::Tensor& outputs, const at::Tensor& targets,
                          double label_smoothing) {
  switch (loss) {
    case Loss::kCrossEntropy:
      return at::cross_entropy_loss(outputs, targets, /*weight=*/{}, at::Reduction::None,
                                    /*ignore_index=*/-100, label_smoothing);
    case Loss::kHalfSquaredError:
      return (outputs - target_vectors(outputs.detach(), targets)).square().sum(1).mul(0.5);
  }
  TORCH_INTERNAL_ASSERT(false, "no such loss");
}

int64_t count_correct(const at::Tensor& outputs, const at::Tensor& targets) {
  return outputs.argmax(1).eq(targets).sum().item<int64_t>();
}

}  // namespace gradist
