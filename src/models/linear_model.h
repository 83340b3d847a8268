#pragma once

#include "models/linear_layer.h"
#include "models/network.h"

#include <cstdint>
#include <memory>
#include <string>

namespace gradist {

/// One linear layer `linear`: logistic regression under cross entropy, linear regression under half
/// squared error.
class LinearModel final : public Network {
 public:
  /// `name` is what `describe` calls it.
  LinearModel(std::string name, int64_t inputs, int64_t outputs, at::Generator& generator);

  at::Tensor forward(const at::Tensor& inputs, Tape* tape = nullptr) override;
  std::string describe() const override;

 private:
  std::string name_;
  std::shared_ptr<LinearLayer> layer_;
};

}  // namespace gradist
