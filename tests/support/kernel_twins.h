#pragma once

#include "gradients/kernels.h"

#include <ATen/ATen.h>
#include <torch/types.h>

#include <vector>

/// What kernels.h computes, by definition: in float64, with every g_i formed, in torch's own
/// operations on the CPU. Shapes and letters are those of kernels.h.
namespace gradist::test::twins {

inline at::Tensor wide(const at::Tensor& x) { return x.to(at::kCPU, at::kDouble); }

/// g_i, [B, O, I].
inline at::Tensor gradients(const at::Tensor& a, const at::Tensor& d) {
  return at::matmul(wide(d).transpose(1, 2), wide(a));
}

inline kernels::Formed formed(const at::Tensor& a, const at::Tensor& d) {
  const auto g = gradients(a, d);
  return {g.square().sum({1, 2}), g.sum(0)};
}

/// By autograd through torch's convolution, one example at a time; the sum is [O, C / groups,
/// kernel].
inline kernels::Formed conv(const at::Tensor& x, const at::Tensor& d,
                            const kernels::ConvGeometry& geometry) {
  const std::vector<int64_t> shape{d.size(1), x.size(1) / geometry.groups, geometry.kernel[0],
                                   geometry.kernel[1]};
  kernels::Formed formed{at::zeros({x.size(0)}, at::kDouble), at::zeros(shape, at::kDouble)};
  for (int64_t i = 0; i < x.size(0); ++i) {
    const auto weight = at::zeros(shape, at::kDouble).requires_grad_();
    const auto y = at::conv2d(wide(x.slice(0, i, i + 1)), weight, {}, geometry.stride,
                              geometry.padding, geometry.dilation, geometry.groups);
    (y * wide(d.slice(0, i, i + 1))).sum().backward();
    formed.squared_norms[i] = weight.grad().square().sum();
    formed.sum += weight.grad();
  }
  return formed;
}

inline kernels::ScaleShift row_norm(const at::Tensor& x, const at::Tensor& d,
                                    const at::Tensor& mean, const at::Tensor& rstd) {
  auto centred = wide(x);
  if (mean.defined()) centred = centred - wide(mean).unsqueeze(2);
  return {(wide(d) * centred * wide(rstd).unsqueeze(2)).sum(1), wide(d).sum(1)};
}

inline kernels::ScaleShift channel_norm(const at::Tensor& x, const at::Tensor& d,
                                        const at::Tensor& mean, const at::Tensor& rstd) {
  const auto normalised = (wide(x) - wide(mean).unsqueeze(2)) * wide(rstd).unsqueeze(2);
  return {(wide(d) * normalised).sum(2), wide(d).sum(2)};
}

}  // namespace gradist::test::twins
