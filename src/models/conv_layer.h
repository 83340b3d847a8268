#pragma once

#include "models/image_shape.h"
#include "models/layer.h"

#include <ATen/core/Generator.h>

#include <cstdint>

namespace gradist {

/// A convolution in two dimensions, x [B, C, H, W], W [O, C, k, k], b [O] (or none): parameters
/// `weight` and `bias`.
///
/// Drawn as torch.nn.Conv2d does, both from U(-1/sqrt(n), 1/sqrt(n)) with n = C k^2, but from a
/// generator of the caller's.
class ConvLayer final : public Layer {
 public:
  ConvLayer(const ImageShape& input, int64_t planes, const Window& window, bool bias,
            at::Generator& generator);

  at::Tensor forward(const at::Tensor& input, Tape* tape) override;
  int64_t multiplications() const override { return weight_.numel() * positions_; }

 private:
  at::Tensor weight_, bias_;
  Window window_;
  int64_t positions_;
};

}  // namespace gradist
