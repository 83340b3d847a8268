#include "models/linear_model.h"

#include <ATen/ATen.h>

#include <utility>

namespace gradist {

LinearModel::LinearModel(std::string name, int64_t inputs, int64_t outputs,
                         at::Generator& generator)
    : name_(std::move(name)),
      layer_(register_module("linear", std::make_shared<LinearLayer>(inputs, outputs, generator))) {
}

at::Tensor LinearModel::forward(const at::Tensor& inputs, Tape* tape) {
  return layer_->forward(inputs.flatten(1), tape);
}

std::string LinearModel::describe() const {
  return name_ + " " + std::to_string(layer_->inputs()) + "-" + std::to_string(layer_->outputs());
}

}  // namespace gradist
