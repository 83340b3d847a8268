#include "models/dropout_layer.h"

#include "data/keyed_random.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

namespace gradist {
namespace {

/// Uniform in [0, 1): the 53 high bits.
double uniform(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

}  // namespace

DropoutLayer::DropoutLayer(double probability, int64_t numbers)
    : probability_(probability), numbers_(numbers) {}

void DropoutLayer::set_masks(const DropoutMasks& masks, uint64_t number) {
  masks_ = masks;
  number_ = number;
}

/// [B, width] float32, zeros and 1 / (1 - p).
at::Tensor DropoutLayer::mask(int64_t width) const {
  const int64_t batch = masks_.rows.numel();
  at::Tensor made = at::empty({batch, width}, at::kFloat);
  const auto* rows = masks_.rows.const_data_ptr<int64_t>();
  auto* to = made.mutable_data_ptr<float>();
  const auto kept = static_cast<float>(1 / (1 - probability_));
  for (int64_t i = 0; i < batch; ++i) {
    const uint64_t example = splitmix64(example_bits(masks_.seed, masks_.key, rows[i]) + number_);
    for (int64_t unit = 0; unit < width; ++unit) {
      const uint64_t bits = splitmix64(example + static_cast<uint64_t>(unit));
      *to++ = uniform(bits) < probability_ ? 0.0F : kept;
    }
  }
  return made;
}

at::Tensor DropoutLayer::forward(const at::Tensor& input, Tape* /*tape*/) {
  if (!masks_.rows.defined()) return input;
  TORCH_INTERNAL_ASSERT(input.dim() == 2 && input.size(0) == masks_.rows.numel());
  return input * mask(input.size(1)).to(input.device(), input.scalar_type());
}

}  // namespace gradist
