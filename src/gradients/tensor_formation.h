#pragma once

#include "gradients/kernels.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace gradist::detail {

/// formation.h for tensors on the CPU in float32 or float64, examples over all threads: gradients
/// of a convolution's weight without groups, from x [B, C, H, W] and d [B, O, H', W'] of any
/// strides (side by side channels or columns are fast).

/// Whether the kernels take these tensors.
bool can_form(const at::Tensor& input, const at::Tensor& backprops,
              const kernels::ConvGeometry& geometry);

/// ||g_i||^2 [B] float64 and sum_i g_i [O, C, kernel].
kernels::Formed form_norms_and_sum(const at::Tensor& input, const at::Tensor& backprops,
                                   const kernels::ConvGeometry& geometry);

/// g_i, [B, O, C, kernel].
at::Tensor form_gradients(const at::Tensor& input, const at::Tensor& backprops,
                          const kernels::ConvGeometry& geometry);

/// Multiply-adds of either for one example.
double operations_to_form(const at::Tensor& input, const at::Tensor& backprops,
                          const kernels::ConvGeometry& geometry);

/// Whether form_positions takes a [B, S, I] and d [B, S, O], neither empty: on the CPU, in float32
/// or float64, numbers of a position side by side.
bool can_form_positions(const at::Tensor& activations, const at::Tensor& backprops);

/// Of a linear layer over positions: ||g_i||^2 [B] float64 and sum_i g_i [O, I], undefined without
/// `with_sum`.
kernels::Formed form_positions_norms_and_sum(const at::Tensor& activations,
                                             const at::Tensor& backprops, bool with_sum,
                                             kernels::Multiplier multiplier);

/// Whether AMX may be the multiplier: of what form_positions takes, float32, and worth it.
bool can_form_by_amx(const at::Tensor& activations, const at::Tensor& backprops);

}  // namespace gradist::detail
