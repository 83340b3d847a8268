#pragma once

#include "gradients/formation.h"
#include "gradients/method_choice.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace gradist::detail {

/// formation.h for tensors on the CPU in float32 or float64, examples over all threads.
///
/// `input` [B, C, W] or [B, C, H, W] and `backprops` [B, O, W'] or [B, O, H', W'] of a convolution,
/// any strides (side by side channels or columns are fast); one number a dimension in the rest.
struct ConvolutionShape {
  std::vector<int64_t> kernel, stride, padding, dilation;
};

/// Whether the kernels take these tensors.
bool can_form(const at::Tensor& input, const at::Tensor& backprops);

/// ||g_i||^2 [B] float64 and sum_i g_i [O, C, *kernel].
NormsAndSum form_norms_and_sum(const at::Tensor& input, const at::Tensor& backprops,
                               const ConvolutionShape& shape);

/// g_i, [B, O, C, *kernel].
at::Tensor form_gradients(const at::Tensor& input, const at::Tensor& backprops,
                          const ConvolutionShape& shape);

/// Multiply-adds of either for one example.
double operations_to_form(const at::Tensor& input, const at::Tensor& backprops,
                          const ConvolutionShape& shape);

/// The same for a linear layer over positions: a [B, S, I], d [B, S, O]; g_i [O, I].
NormsAndSum form_norms_and_sum(const at::Tensor& activations, const at::Tensor& backprops);

}  // namespace gradist::detail
