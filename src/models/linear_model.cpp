#include "models/linear_model.h"

#include "models/linear_layer.h"
#include "models/sparse_linear_layer.h"

#include <ATen/ATen.h>

#include <utility>

namespace gradist {

LinearModel::LinearModel(std::string name, int64_t inputs, int64_t outputs,
                         at::Generator& generator, bool sparse)
    : name_(std::move(name)), inputs_(inputs), outputs_(outputs), sparse_(sparse) {
  if (sparse) {
    layer_ = std::make_shared<SparseLinearLayer>(inputs, outputs, generator);
  } else {
    layer_ = std::make_shared<LinearLayer>(inputs, outputs, generator);
  }
  register_module("linear", layer_);
}

at::Tensor LinearModel::forward(const at::Tensor& inputs, Tape* tape) {
  return layer_->forward(sparse_ ? inputs : inputs.flatten(1), tape);
}

std::string LinearModel::describe() const {
  return name_ + " " + std::to_string(inputs_) + "-" + std::to_string(outputs_) +
         (sparse_ ? ", sparse" : "");
}

}  // namespace gradist
