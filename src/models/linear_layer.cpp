#include "models/linear_layer.h"

#include <ATen/ATen.h>

#include <cmath>

namespace gradist {

LinearLayer::LinearLayer(int64_t inputs, int64_t outputs, at::Generator& generator) {
  double bound = 1 / std::sqrt(static_cast<double>(inputs));
  weight_ = register_parameter(
      "weight", at::empty({outputs, inputs}, at::kFloat).uniform_(-bound, bound, generator));
  bias_ = register_parameter("bias",
                             at::empty({outputs}, at::kFloat).uniform_(-bound, bound, generator));
}

at::Tensor LinearLayer::forward(const at::Tensor& input, Tape* tape) {
  return linear(tape, input, weight_, bias_);
}

}  // namespace gradist
