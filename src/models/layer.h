#pragma once

#include "gradients/tape.h"

#include <ATen/core/Tensor.h>
#include <torch/nn/module.h>

#include <cstdint>

namespace gradist {

/// A part of a network with parameters: the examples in, the examples out, dimension 0 of both the
/// batch. Recorded where there is a tape.
class Layer : public torch::nn::Module {
 public:
  virtual at::Tensor forward(const at::Tensor& input, Tape* tape) = 0;

  /// Multiply-adds of one example's forward pass.
  virtual int64_t multiplications() const = 0;
};

}  // namespace gradist
