#pragma once

#include "gradients/kernels.h"

#include <ATen/ATen.h>

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

/// Sizes of the terms that cancel in `formed`: sum_st |<a_s, a_t> <d_s, d_t>| [B] and sum_is |d|
/// |a|^T [O, I].
inline kernels::Formed formed_terms(const at::Tensor& a, const at::Tensor& d) {
  const auto gram = [](const at::Tensor& x) { return at::matmul(x, x.transpose(1, 2)).abs(); };
  return {(gram(wide(a)) * gram(wide(d))).sum({1, 2}), gradients(a.abs(), d.abs()).sum(0)};
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
