#pragma once

#include "gradients/kernels.h"

/// The CUDA side of kernels.h: same functions, same contracts, checked arguments, on the current
/// stream of their device. No atomics: partial sums are added in a fixed order.
namespace gradist::kernels::cuda {

at::Tensor gram_squared_norms(const at::Tensor& activations, const at::Tensor& backprops);
Formed formed_squared_norms(const at::Tensor& activations, const at::Tensor& backprops);
ScaleShift row_norm_gradients(const at::Tensor& x, const at::Tensor& backprops,
                              const at::Tensor& mean, const at::Tensor& rstd);
ScaleShift channel_norm_gradients(const at::Tensor& x, const at::Tensor& backprops,
                                  const at::Tensor& mean, const at::Tensor& rstd);
Formed conv_squared_norms(const at::Tensor& x, const at::Tensor& backprops,
                          const ConvGeometry& geometry, bool with_sum);
void add_segment(const at::Tensor& segment_sum, const at::Tensor& segment_squares,
                 const SegmentWeights& weights, const RunningSums& sums,
                 const at::Tensor& squared_norm);

}  // namespace gradist::kernels::cuda
