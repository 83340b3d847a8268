#include "models/batch_norm_layer.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

namespace gradist {
namespace {

constexpr double kEpsilon = 1e-5, kMomentum = 0.1;

}  // namespace

BatchNormLayer::BatchNormLayer(const ImageShape& input) : numbers_(input.numbers()) {
  const int64_t channels = input.channels;
  weight_ = register_parameter("weight", at::ones({channels}));
  bias_ = register_parameter("bias", at::zeros({channels}));
  running_mean_ = register_buffer("running_mean", at::zeros({channels}));
  running_variance_ = register_buffer("running_var", at::ones({channels}));
}

at::Tensor BatchNormLayer::forward(const at::Tensor& input, Tape* tape) {
  const auto plain = [&] {
    return at::batch_norm(input, weight_, bias_, running_mean_, running_variance_, is_training(),
                          kMomentum, kEpsilon, /*cudnn_enabled=*/true);
  };
  if (tape == nullptr) return plain();
  TORCH_CHECK(!is_training(), "batch norm in train mode has no gradients of single examples");
  return tape->record(
      rules::batch_norm(input, running_mean_, running_variance_, weight_, bias_, kEpsilon), plain);
}

}  // namespace gradist
