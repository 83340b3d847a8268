#pragma once

#include "models/activation.h"
#include "models/batch_norm_layer.h"
#include "models/dropout_layer.h"
#include "models/linear_layer.h"
#include "models/network.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gradist {

/// Fully connected layers layer1, layer2, ... with an activation between them, none after the last.
/// No hidden layer is allowed. With `batch_norm` there is a BatchNormLayer norm1, norm2, ... after
/// each but the last, and with `dropout` > 0 a DropoutLayer before each but the first.
class Mlp final : public Network {
 public:
  Mlp(int64_t inputs, const std::vector<int64_t>& hidden, int64_t outputs, at::Generator& generator,
      Activation between = activation("relu"), double dropout = 0, bool batch_norm = false);

  at::Tensor forward(const at::Tensor& inputs, Tape* tape = nullptr) override;
  std::string describe() const override;

 private:
  std::vector<std::shared_ptr<LinearLayer>> layers_;
  std::vector<std::shared_ptr<BatchNormLayer>> norms_;   ///< after layers 1, 2, ...; or none
  std::vector<std::shared_ptr<DropoutLayer>> dropouts_;  ///< before layers 2, 3, ...; or none
  double dropout_;
  Activation activation_;
};

}  // namespace gradist
