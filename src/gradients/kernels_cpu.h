#pragma once

#include "gradients/kernels.h"

/// The CPU side of kernels.h: same functions, same contracts, checked arguments; factors of
/// products in the type of their sums.
namespace gradist::kernels::cpu {

at::Tensor gram_squared_norms(const at::Tensor& activations, const at::Tensor& backprops);
Formed formed_squared_norms(const at::Tensor& activations, const at::Tensor& backprops,
                            bool with_sum, Multiplier multiplier);
at::Tensor squared_norms(const at::Tensor& rows);
Formed row_squared_norms(const at::Tensor& rows);
Formed token_squared_norms(const at::Tensor& tokens, const at::Tensor& backprops, int64_t count);
ScaleShift row_norm_gradients(const at::Tensor& x, const at::Tensor& backprops,
                              const at::Tensor& mean, const at::Tensor& rstd);
ScaleShift channel_norm_gradients(const at::Tensor& x, const at::Tensor& backprops,
                                  const at::Tensor& mean, const at::Tensor& rstd);
void add_segment(const at::Tensor& segment_sum, const at::Tensor& segment_squares,
                 const SegmentWeights& weights, const RunningSums& sums,
                 const at::Tensor& squared_norm);

}  // namespace gradist::kernels::cpu
