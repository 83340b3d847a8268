#pragma once

#include "models/layer.h"
#include "models/network.h"

#include <cstdint>
#include <memory>
#include <string>

namespace gradist {

/// One linear layer `linear`: logistic regression under cross entropy, linear regression under half
/// error. For `sparse` inputs a SparseLinearLayer.
class LinearModel final : public Network {
 public:
  /// `name` is what `describe` calls it.
  LinearModel(std::string name, int64_t inputs, int64_t outputs, at::Generator& generator,
              bool sparse = false);

  at::Tensor forward(const at::Tensor& inputs, Tape* tape = nullptr) override;
  std::string describe() const override;

 private:
  std::string name_;
  int64_t inputs_, outputs_;
  bool sparse_;
  std::shared_ptr<Layer> layer_;
};

}  // namespace gradist
