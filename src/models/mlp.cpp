#include "models/mlp.h"

#include <ATen/ATen.h>
#include <c10/util/StringUtil.h>

namespace gradist {

Mlp::Mlp(int64_t inputs, const std::vector<int64_t>& hidden, int64_t outputs,
         at::Generator& generator, Activation between, double dropout, bool batch_norm)
    : dropout_(dropout), activation_(between) {
  std::vector<int64_t> widths = hidden;
  widths.push_back(outputs);
  for (int64_t width : widths) {
    const std::string number = std::to_string(layers_.size() + 1);
    layers_.push_back(
        register_module("layer" + number, std::make_shared<LinearLayer>(inputs, width, generator)));
    if (batch_norm && layers_.size() < widths.size()) {
      norms_.push_back(register_module("norm" + number,
                                       std::make_shared<BatchNormLayer>(ImageShape{width, 1, 1})));
    }
    inputs = width;
  }
  for (size_t k = 1; k < layers_.size() && dropout > 0; ++k) {
    dropouts_.push_back(
        register_module("dropout" + std::to_string(k),
                        std::make_shared<DropoutLayer>(dropout, layers_[k]->inputs())));
  }
}

at::Tensor Mlp::forward(const at::Tensor& inputs, Tape* tape) {
  at::Tensor values = layers_.front()->forward(inputs.flatten(1), tape);
  for (size_t layer = 1; layer < layers_.size(); ++layer) {
    if (!norms_.empty()) values = norms_[layer - 1]->forward(values, tape);
    values = activation_(values);
    if (!dropouts_.empty()) values = dropouts_[layer - 1]->forward(values, tape);
    values = layers_[layer]->forward(values, tape);
  }
  return values;
}

std::string Mlp::describe() const {
  std::string text = "mlp " + std::to_string(layers_.front()->inputs());
  for (const auto& layer : layers_) text += "-" + std::to_string(layer->outputs());
  if (!norms_.empty()) text += ", batch norm";
  if (dropout_ > 0) text += ", dropout " + c10::str(dropout_);
  return text;
}

}  // namespace gradist
