#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace gradist {

/// Minibatches of B of N examples without replacement, an epoch at a time: each epoch is a new
/// permutation, cut into floor(N / B) batches; what is left over at its end is left out of that
/// epoch.
class EpochSampler {
 public:
  /// 1 <= batch_size <= examples.
  EpochSampler(int64_t examples, int64_t batch_size, at::Generator generator);

  int64_t batches_per_epoch() const { return examples_ / batch_size_; }

  /// The next batch, [B] int64.
  at::Tensor next();

 private:
  int64_t examples_, batch_size_;
  at::Generator generator_;
  at::Tensor order_;
  int64_t used_ = 0;
};

}  // namespace gradist
