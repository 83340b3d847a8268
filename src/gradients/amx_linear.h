#pragma once

#include <ATen/core/Tensor.h>

namespace gradist::detail {

/// y = x W^T + b by AMX (amx.h), with a gradient for x alone: x [B, ..., I], W [O, I] without
/// gradient, b [O] or undefined. As exact as torch's own in float32, but rounded otherwise.
///
/// Undefined where torch's is to be taken: without AMX; for other types than float32 and under
/// autocast; for too few rows to be worth the fetching of W; for narrow layers; for tensors without
/// memory of their own; and where something is infinite.
at::Tensor linear_by_amx(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias);

}  // namespace gradist::detail
