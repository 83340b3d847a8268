#pragma once

#include "models/layer.h"

#include <cstdint>

namespace gradist {

/// Which examples a forward pass sees, and all that decides on their masks.
struct DropoutMasks {
  at::Tensor rows;  ///< [B] int64 on the CPU: the examples; undefined: nothing is dropped
  uint64_t seed = 0;
  uint64_t key = 0;
};

/// Dropout: y_u = m_u x_u / (1 - p), each m_u zero with probability p. [Srivastava14]
///
/// The mask of example i is a pure function of seed, key, i and the layer's number, whoever else is
/// in its batch. So the loss of one example is its own, and whoever keeps the key locks the masks,
/// at no memory. [Defazio19] section 2
class DropoutLayer final : public Layer {
 public:
  DropoutLayer(double probability, int64_t numbers);

  /// Of the forward passes that follow; `number` tells the layers of a network apart.
  void set_masks(const DropoutMasks& masks, uint64_t number);

  at::Tensor forward(const at::Tensor& input, Tape* tape) override;
  int64_t multiplications() const override { return numbers_; }

 private:
  at::Tensor mask(int64_t width) const;

  double probability_;
  int64_t numbers_;
  DropoutMasks masks_;
  uint64_t number_ = 0;
};

}  // namespace gradist
