#pragma once

#include "models/layer.h"

#include <ATen/core/Generator.h>

#include <cstdint>

namespace gradist {

/// y = x W + b for sparse x [B, I] in compressed rows, W [I, O], b [O]: parameters `weight` and
/// `bias`. Only the rows of W that an example has features for are looked at, and its gradient has
/// no others: x is never made dense.
///
/// Drawn as LinearLayer's.
class SparseLinearLayer final : public Layer {
 public:
  SparseLinearLayer(int64_t inputs, int64_t outputs, at::Generator& generator);

  at::Tensor forward(const at::Tensor& input, Tape* tape) override;
  int64_t multiplications() const override { return weight_.numel(); }

 private:
  at::Tensor weight_, bias_;
};

}  // namespace gradist
