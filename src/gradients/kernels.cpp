#include "gradients/kernels.h"

#include "gradients/factored_gradients.h"
#include "gradients/kernels_cpu.h"
#ifdef GRADIST_CUDA
#include "gradients/kernels_cuda.h"
#endif
#include "gradients/tensor_formation.h"

#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/im2col.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace gradist::kernels {
namespace {

/// Sums are taken and returned in this type.
at::ScalarType sum_type(const at::Tensor& factor) { return at::toOpMathType(factor.scalar_type()); }

/// Two factors in one type: their own where it is the same, else that of the sums.
struct Pair {
  at::Tensor left, right;
};
Pair in_one_type(const at::Tensor& left, const at::Tensor& right) {
  TORCH_INTERNAL_ASSERT(left.device() == right.device());
  if (left.scalar_type() == right.scalar_type()) {
    return {left, right};
  }
  const auto dtype = c10::promoteTypes(sum_type(left), sum_type(right));
  return {left.to(dtype), right.to(dtype)};
}

Pair checked_factors(const at::Tensor& activations, const at::Tensor& backprops) {
  TORCH_INTERNAL_ASSERT(activations.dim() == 3 && backprops.dim() == 3);
  TORCH_INTERNAL_ASSERT(activations.size(0) == backprops.size(0) &&
                        activations.size(1) == backprops.size(1));
  return in_one_type(activations, backprops);
}

bool nothing_to_sum(const at::Tensor& activations, const at::Tensor& backprops) {
  return activations.numel() == 0 || backprops.numel() == 0;
}

/// Of factors [B, S, I] and [B, S, O] in the type of their sums.
Multiplier chosen(Multiplier multiplier, const at::Tensor& a, const at::Tensor& d) {
  if (multiplier == Multiplier::kVectors || !can_use_amx(a, d)) {
    return Multiplier::kVectors;
  }
  const auto S = static_cast<double>(a.size(1)), I = static_cast<double>(a.size(2)),
             O = static_cast<double>(d.size(2));
  const bool fewer = amx_forming_operations(S, I, O) < forming_operations(S, I, O);
  return multiplier == Multiplier::kAmx || fewer ? Multiplier::kAmx : Multiplier::kVectors;
}

/// d^T a, [O, I], as the sum over the positions of one long example.
at::Tensor sum_of_outer_products(const at::Tensor& a, const at::Tensor& d, Multiplier multiplier) {
  const auto activations = a.unsqueeze(0), backprops = d.unsqueeze(0);
  return chosen(multiplier, activations, backprops) == Multiplier::kAmx
             ? cpu::formed_squared_norms(activations, backprops, true, Multiplier::kAmx).sum
             : at::mm(d.t(), a);
}

/// The sums over no positions, or of no channels.
ScaleShift no_gradients(const at::Tensor& x, int64_t channels) {
  const auto zeros = at::zeros({x.size(0), channels}, x.options().dtype(sum_type(x)));
  return {zeros, zeros.clone()};
}

/// On a device that has no kernels of ours: the same sums by torch's operations.
namespace by_operations {

/// Positions of one Gram tile.
constexpr int64_t kTilePositions = 512;

/// Numbers in one tile of formed gradients.
constexpr int64_t kTileElements = int64_t{1} << 24;

at::Tensor gram_squared_norms(const at::Tensor& a, const at::Tensor& d) {
  const auto examples = a.size(0), positions = a.size(1);
  auto total = at::zeros({examples}, a.options().dtype(at::kDouble));
  for (int64_t s = 0; s < positions; s += kTilePositions) {
    for (int64_t t = s; t < positions; t += kTilePositions) {
      const auto products = [&](const at::Tensor& factor) {
        const auto rows = [&](int64_t begin) {
          return factor.slice(1, begin, std::min(begin + kTilePositions, positions));
        };
        return at::bmm(rows(s), rows(t).transpose(1, 2));
      };
      total += (products(a) * products(d)).sum({1, 2}, /*keepdim=*/false, at::kDouble) *
               (s == t ? 1 : 2);
    }
  }
  return total;
}

Formed formed_squared_norms(const at::Tensor& a, const at::Tensor& d) {
  const auto tile = std::max<int64_t>(1, kTileElements / (a.size(2) * d.size(2)));
  Formed formed{at::zeros({a.size(0)}, a.options()),
                at::zeros({d.size(2), a.size(2)}, a.options())};
  for (int64_t begin = 0; begin < a.size(0); begin += tile) {
    const auto end = std::min(begin + tile, a.size(0));
    const auto gradients = at::bmm(d.slice(0, begin, end).transpose(1, 2), a.slice(0, begin, end));
    formed.squared_norms.slice(0, begin, end).copy_(gradients.square().sum({1, 2}));
    formed.sum += gradients.sum(0);
  }
  return formed;
}

/// Chunk by chunk, and group by group, as a linear layer of the unfolded input.
Formed conv_squared_norms(const at::Tensor& x, const at::Tensor& d, const ConvGeometry& geometry) {
  const auto groups = geometry.groups, positions = d.size(2) * d.size(3);
  const auto [height, width] = geometry.kernel;
  const auto inputs = x.size(1) / groups * height * width;
  const auto chunk = std::max<int64_t>(1, kTileElements / (groups * inputs * positions));
  std::vector<at::Tensor> norms;
  auto sum = at::zeros({groups, d.size(1) / groups, inputs}, x.options());
  for (int64_t begin = 0; begin < x.size(0); begin += chunk) {
    const auto end = std::min(begin + chunk, x.size(0));
    const auto windows = at::im2col(x.slice(0, begin, end), geometry.kernel, geometry.dilation,
                                    geometry.padding, geometry.stride)
                             .unflatten(1, {groups, inputs});
    const auto backprops = d.slice(0, begin, end).flatten(2).unflatten(1, {groups, -1});
    norms.push_back(at::zeros({end - begin}, x.options()));
    for (int64_t g = 0; g < groups; ++g) {
      const auto formed = kernels::formed_squared_norms(windows.select(1, g).transpose(1, 2),
                                                        backprops.select(1, g).transpose(1, 2));
      norms.back() += formed.squared_norms;
      sum.select(0, g) += formed.sum;
    }
  }
  return {at::cat(norms), sum};
}

void add_segment(at::Tensor total, const at::Tensor& segment_squares, const SegmentWeights& weights,
                 const RunningSums& sums, const at::Tensor& squared_norm) {
  sums.sum.add_(total, weights.visit);
  if (!weights.whole) {
    total = total + sums.open;
    sums.open.copy_(total);
  }
  if (weights.last) {
    squared_norm.copy_(total.square().sum());
    sums.open.zero_();
  } else {
    squared_norm.zero_();
  }
  if (!sums.squares.defined()) {
    return;
  }
  const auto squares = segment_squares.to(at::kDouble);
  sums.squares.add_(squares, weights.visit);
  if (sums.within.defined()) {
    sums.within.add_(squares, weights.within);
    if (weights.last) {
      sums.within.sub_(total.square(), weights.within / weights.visited);
    }
  }
}

}  // namespace by_operations
}  // namespace

at::Tensor gram_squared_norms(const at::Tensor& activations, const at::Tensor& backprops) {
  const at::NoGradGuard no_grad;
  const auto [a, d] = checked_factors(activations, backprops);
  if (nothing_to_sum(a, d)) {
    return at::zeros({a.size(0)}, a.options().dtype(sum_type(a)));
  }
  if (a.is_cpu()) {
    return cpu::gram_squared_norms(a.to(sum_type(a)), d.to(sum_type(d)));
  }
#ifdef GRADIST_CUDA
  if (a.is_cuda()) {
    return cuda::gram_squared_norms(a, d);
  }
#endif
  return by_operations::gram_squared_norms(a.to(sum_type(a)), d.to(sum_type(d))).to(sum_type(a));
}

bool can_use_amx(const at::Tensor& activations, const at::Tensor& backprops) {
  return detail::can_form_by_amx(activations, backprops);
}

double amx_forming_operations(double positions, double inputs, double outputs) {
  constexpr double kProduct = 0.55, kFetched = 22;  // a multiply-add, a number of a or d
  const auto whole = [](double count) { return std::ceil(count / 32) * 32; };
  return kProduct * whole(positions) * whole(inputs) * whole(outputs) +
         kFetched * positions * (inputs + outputs);
}

Formed formed_squared_norms(const at::Tensor& activations, const at::Tensor& backprops,
                            bool with_sum, Multiplier multiplier) {
  const at::NoGradGuard no_grad;
  const auto [a, d] = checked_factors(activations, backprops);
  if (nothing_to_sum(a, d)) {
    const auto options = a.options().dtype(sum_type(a));
    return {at::zeros({a.size(0)}, options), at::zeros({d.size(2), a.size(2)}, options)};
  }
  if (a.is_cpu()) {
    const auto left = a.to(sum_type(a)), right = d.to(sum_type(d));
    return cpu::formed_squared_norms(left, right, with_sum, chosen(multiplier, left, right));
  }
#ifdef GRADIST_CUDA
  if (a.is_cuda()) {
    return cuda::formed_squared_norms(a, d);
  }
#endif
  return by_operations::formed_squared_norms(a.to(sum_type(a)), d.to(sum_type(d)));
}

Formed row_squared_norms(const at::Tensor& rows) {
  const at::NoGradGuard no_grad;
  TORCH_INTERNAL_ASSERT(rows.dim() == 2);
  const auto d = rows.to(sum_type(rows));
  if (d.is_cpu()) {
    return cpu::row_squared_norms(d);
  }
  return {at::linalg_vector_norm(d, 2, at::IntArrayRef{1}).square_(), d.sum(0)};
}

OuterProducts outer_products(const at::Tensor& activations, const at::Tensor& backprops,
                             Multiplier multiplier) {
  const at::NoGradGuard no_grad;
  TORCH_INTERNAL_ASSERT(activations.dim() == 2 && backprops.dim() == 2 &&
                        activations.size(0) == backprops.size(0));
  auto [a, d] = in_one_type(activations, backprops);
  a = a.to(sum_type(a));
  d = d.to(sum_type(d));
  const auto bias = row_squared_norms(d);
  auto norms = a.is_cpu() ? cpu::squared_norms(a)
                          : at::linalg_vector_norm(a, 2, at::IntArrayRef{1}).square_();
  return {{norms.mul_(bias.squared_norms), sum_of_outer_products(a, d, multiplier)}, bias};
}

Formed token_squared_norms(const at::Tensor& tokens, const at::Tensor& backprops, int64_t count) {
  const at::NoGradGuard no_grad;
  TORCH_INTERNAL_ASSERT(tokens.dim() == 2 && backprops.dim() == 3 &&
                        tokens.sizes() == backprops.sizes().slice(0, 2));
  const auto d = backprops.to(sum_type(backprops));
  if (d.is_cpu()) {
    return cpu::token_squared_norms(tokens, d, count);
  }
  const auto g = FactoredGradients::from_rows(tokens, d, {count, d.size(2)}, "");
  return {g.squared_norms(), g.sum()};
}

ScaleShift row_norm_gradients(const at::Tensor& x, const at::Tensor& backprops,
                              const at::Tensor& mean, const at::Tensor& rstd) {
  const at::NoGradGuard no_grad;
  TORCH_INTERNAL_ASSERT(x.dim() == 3 && x.sizes() == backprops.sizes());
  TORCH_INTERNAL_ASSERT(rstd.sizes() == x.sizes().slice(0, 2) &&
                        (!mean.defined() || mean.sizes() == rstd.sizes()));
  const auto [input, d] = in_one_type(x, backprops);
  const auto dtype = sum_type(input);
  const auto centre = mean.defined() ? mean.to(dtype).contiguous() : mean;
  const auto factor = rstd.to(dtype).contiguous();
  if (input.numel() == 0) {
    return no_gradients(input, input.size(2));
  }
  if (input.is_cpu()) {
    return cpu::row_norm_gradients(input, d, centre, factor);
  }
#ifdef GRADIST_CUDA
  if (input.is_cuda()) {
    return cuda::row_norm_gradients(input, d, centre, factor);
  }
#endif
  auto normalised = input.to(dtype);
  if (centre.defined()) {
    normalised = normalised - centre.unsqueeze(2);
  }
  return {(d.to(dtype) * normalised * factor.unsqueeze(2)).sum(1), d.sum(1, false, dtype)};
}

ScaleShift channel_norm_gradients(const at::Tensor& x, const at::Tensor& backprops,
                                  const at::Tensor& mean, const at::Tensor& rstd) {
  const at::NoGradGuard no_grad;
  TORCH_INTERNAL_ASSERT(x.dim() == 3 && x.sizes() == backprops.sizes());
  TORCH_INTERNAL_ASSERT(mean.dim() == 2 && rstd.sizes() == mean.sizes() &&
                        mean.size(1) == x.size(1) &&
                        (mean.size(0) == 1 || mean.size(0) == x.size(0)));
  const auto [input, d] = in_one_type(x, backprops);
  const auto dtype = sum_type(input);
  const auto centre = mean.to(dtype).contiguous(), factor = rstd.to(dtype).contiguous();
  if (input.numel() == 0) {
    return no_gradients(input, input.size(1));
  }
  if (input.is_cpu()) {
    return cpu::channel_norm_gradients(input, d, centre, factor);
  }
#ifdef GRADIST_CUDA
  if (input.is_cuda()) {
    return cuda::channel_norm_gradients(input, d, centre, factor);
  }
#endif
  return {(d.to(dtype) * (input.to(dtype) - centre.unsqueeze(2))).sum(2) * factor,
          d.sum(2, false, dtype)};
}

namespace {

/// Positions of a convolution's output along one side.
int64_t output_size(const ConvGeometry& geometry, size_t side, int64_t size) {
  return (size + 2 * geometry.padding[side] -
          geometry.dilation[side] * (geometry.kernel[side] - 1) - 1) /
             geometry.stride[side] +
         1;
}

}  // namespace

Formed conv_squared_norms(const at::Tensor& x, const at::Tensor& backprops,
                          const ConvGeometry& geometry, bool with_sum) {
  const at::NoGradGuard no_grad;
  TORCH_INTERNAL_ASSERT(x.dim() == 4 && backprops.dim() == 4 && x.size(0) == backprops.size(0));
  TORCH_INTERNAL_ASSERT(x.size(1) % geometry.groups == 0 &&
                        backprops.size(1) % geometry.groups == 0);
  TORCH_INTERNAL_ASSERT(backprops.size(2) == output_size(geometry, 0, x.size(2)) &&
                        backprops.size(3) == output_size(geometry, 1, x.size(3)));
  const auto [input, d] = in_one_type(x, backprops);
  const auto [height, width] = geometry.kernel;
  const auto options = input.options().dtype(sum_type(input));
  const std::array<int64_t, 4> shape{d.size(1), input.size(1) / geometry.groups, height, width};
  Formed formed;
  if (nothing_to_sum(input, d)) {
    formed = {at::zeros({input.size(0)}, options), at::zeros(shape, options)};
  } else if (detail::can_form(input, d, geometry)) {
    formed = detail::form_norms_and_sum(input, d, geometry);
    formed.squared_norms = formed.squared_norms.to(options);
#ifdef GRADIST_CUDA
  } else if (input.is_cuda()) {
    formed = cuda::conv_squared_norms(input, d, geometry, with_sum);
#endif
  } else {
    formed = by_operations::conv_squared_norms(input.to(options), d.to(options), geometry);
  }
  return {formed.squared_norms, with_sum ? formed.sum.reshape(shape) : at::Tensor()};
}

void add_segment(const at::Tensor& segment_sum, const at::Tensor& segment_squares,
                 const SegmentWeights& weights, const RunningSums& sums,
                 const at::Tensor& squared_norm) {
  const at::NoGradGuard no_grad;
  TORCH_INTERNAL_ASSERT(sums.squares.defined() == segment_squares.defined() &&
                        (sums.squares.defined() || !sums.within.defined()));
  TORCH_INTERNAL_ASSERT(segment_sum.numel() == sums.sum.numel() &&
                        segment_sum.device() == sums.sum.device());
  if (segment_sum.is_cpu()) {
    return cpu::add_segment(segment_sum, segment_squares, weights, sums, squared_norm);
  }
#ifdef GRADIST_CUDA
  if (segment_sum.is_cuda()) {
    return cuda::add_segment(segment_sum, segment_squares, weights, sums, squared_norm);
  }
#endif
  by_operations::add_segment(segment_sum.to(at::kDouble), segment_squares, weights, sums,
                             squared_norm);
}

}  // namespace gradist::kernels
