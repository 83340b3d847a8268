#include "trajectory/epoch_sampler.h"

#include <ATen/ops/randperm.h>
#include <c10/util/Exception.h>

namespace gradist {

EpochSampler::EpochSampler(int64_t examples, int64_t batch_size, at::Generator generator)
    : examples_(examples),
      batch_size_(batch_size),
      generator_(std::move(generator)),
      used_(examples) {
  TORCH_CHECK_VALUE(batch_size >= 1 && batch_size <= examples, "batch-size = ", batch_size,
                    ", must lie in [1, ", examples, "], the number of examples");
}

at::Tensor EpochSampler::next() {
  if (used_ + batch_size_ > examples_) {
    order_ = at::randperm(examples_, generator_, at::TensorOptions().dtype(at::kLong));
    used_ = 0;
  }
  used_ += batch_size_;
  return order_.slice(0, used_ - batch_size_, used_);
}

}  // namespace gradist
