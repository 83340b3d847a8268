#include "models/mlp.h"

#include <ATen/ATen.h>

namespace gradist {

Mlp::Mlp(int64_t inputs, const std::vector<int64_t>& hidden, int64_t outputs,
         at::Generator& generator, Activation between)
    : activation_(between) {
  std::vector<int64_t> widths = hidden;
  widths.push_back(outputs);
  for (int64_t width : widths) {
    std::string name = "layer" + std::to_string(layers_.size() + 1);
    layers_.push_back(
        register_module(name, std::make_shared<LinearLayer>(inputs, width, generator)));
    inputs = width;
  }
}

at::Tensor Mlp::forward(const at::Tensor& inputs, Tape* tape) {
  at::Tensor values = layers_.front()->forward(inputs.flatten(1), tape);
  for (size_t layer = 1; layer < layers_.size(); ++layer)
    values = layers_[layer]->forward(activation_(values), tape);
  return values;
}

std::string Mlp::describe() const {
  std::string text = "mlp " + std::to_string(layers_.front()->inputs());
  for (const auto& layer : layers_) text += "-" + std::to_string(layer->outputs());
  return text;
}

}  // namespace gradist
