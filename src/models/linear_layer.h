#pragma once

#include "models/layer.h"

#include <ATen/core/Generator.h>

#include <cstdint>

namespace gradist {

/// y = x W^T + b for x [B, ..., I], W [O, I], b [O]: parameters `weight` and `bias`.
///
/// Drawn as torch.nn.Linear does, both from U(-1/sqrt(I), 1/sqrt(I)), but from a generator of the
/// caller's.
class LinearLayer final : public Layer {
 public:
  LinearLayer(int64_t inputs, int64_t outputs, at::Generator& generator);

  at::Tensor forward(const at::Tensor& input, Tape* tape) override;
  int64_t multiplications() const override { return weight_.numel(); }

  int64_t inputs() const { return weight_.size(1); }
  int64_t outputs() const { return weight_.size(0); }

 private:
  at::Tensor weight_, bias_;
};

}  // namespace gradist
