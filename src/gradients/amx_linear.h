#pragma once

#include <ATen/core/Tensor.h>

namespace gradist::detail {

/// The products of a linear layer y = x W^T + b that are no gradient of W, by AMX (amx.h): as exact
/// as torch's in float32, but rounded otherwise. x [B, ..., I], W [O, I], b [O] or undefined.
///
/// For float32 on the CPU outside of autocast; for enough rows to be worth the fetching of W, and
/// no narrow layers; for tensors with memory of their own.
bool can_multiply_by_amx(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias);

/// y [B, ..., O], without a graph. Undefined where something is infinite: that is for torch.
at::Tensor linear_outputs_by_amx(const at::Tensor& input, const at::Tensor& weight,
                                 const at::Tensor& bias);

/// d W for d [B, ..., O]. Undefined where something is infinite, or d has no memory of its own.
at::Tensor linear_backprops_by_amx(const at::Tensor& backprops, const at::Tensor& weight);

}  // namespace gradist::detail
