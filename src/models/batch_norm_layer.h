#pragma once

#include "models/image_shape.h"
#include "models/layer.h"

#include <cstdint>

namespace gradist {

/// Batch norm of planes [B, C, H, W] or numbers [B, C]: y = (x - m) / sqrt(v + 1e-5) * w + b with
/// parameters `weight` (ones at first) and `bias` (zeros), [C] each. [Ioffe15]
///
/// In train mode m and v are mean and variance of the batch itself and move the running ones,
/// buffers `running_mean` (zeros at first) and `running_var` (ones), by a tenth. Then a loss
/// depends on all examples of its batch and f_i does not exist: recording such a pass is refused.
/// In eval mode m and v are the running ones and every example has a gradient of its own.
class BatchNormLayer final : public Layer {
 public:
  explicit BatchNormLayer(const ImageShape& input);

  at::Tensor forward(const at::Tensor& input, Tape* tape) override;
  int64_t multiplications() const override { return numbers_; }

 private:
  int64_t numbers_;
  at::Tensor weight_, bias_, running_mean_, running_variance_;
};

}  // namespace gradist
