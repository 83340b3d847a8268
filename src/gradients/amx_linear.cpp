#include "gradients/amx_linear.h"

#include "gradients/amx.h"
#include "gradients/coordinate_grid.h"

#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>

namespace gradist::detail {
namespace {

/// Rows of x that may be worth the fetching of W, and the narrowest layer. From timings.
constexpr int64_t kFewestRows = 64, kNarrowest = 64;

/// Positions that are multiplied at once. More keep what a thread reads out of its L2, fewer read
/// again what is there of the output, which costs little while that is small. From timings.
constexpr int64_t kPositionsTogether = 512, kPositionsOfSmall = 256;
constexpr int64_t kSmall = int64_t{1} << 18;

/// Float32 on the CPU, and neither wrapped, as inside torch.func, nor with a tangent.
bool has_own_memory(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.layout() == at::kStrided && tensor.scalar_type() == at::kFloat &&
         !at::isTensorSubclassLike(tensor) && !tensor._fw_grad(/*level=*/0).defined();
}

/// [..., n] as [rows, n], the numbers of one side by side, copied only where they are not or rows
/// are unevenly apart; undefined without memory of its own.
at::Tensor as_rows(const at::Tensor& values) {
  if (!has_own_memory(values)) {
    return {};
  }
  const auto rows = values.reshape({-1, values.size(-1)});
  return rows.stride(1) == 1 ? rows : rows.contiguous();
}

/// x M + shift for x [..., K] and a matrix M [K, columns], whose number (k, c) is `matrix`'s number
/// c at position k. Undefined if x has no memory, or a product is infinite: AMX gives NaN then.
at::Tensor product(const at::Tensor& x, const AmxSide& matrix, const at::Tensor& shift) {
  const auto rows = as_rows(x);
  if (!rows.defined()) {
    return {};
  }
  const auto N = rows.size(0), K = rows.size(1), columns = matrix.numbers;
  auto shape = x.sizes().vec();
  shape.back() = columns;
  auto result = at::empty(shape, x.options());
  AmxProducts products{{rows.const_data_ptr<float>(), 0, 1, rows.stride(0), N}, matrix};
  products.positions = K;
  products.positions_at_once = N * columns <= kSmall ? kPositionsOfSmall : kPositionsTogether;
  double squares = 0;
  AmxResult sums;
  sums.sum = result.data_ptr<float>();
  sums.shift = shift.defined() ? shift.const_data_ptr<float>() : nullptr;
  sums.squared_norms = &squares;
  multiply_by_amx(products, sums, threads_worth(N * K * columns));
  return std::isfinite(squares) ? result : at::Tensor();
}

}  // namespace

bool can_multiply_by_amx(const at::Tensor& input, const at::Tensor& weight,
                         const at::Tensor& bias) {
  if (!has_amx() || input.dim() < 2 || weight.dim() != 2 || !has_own_memory(input) ||
      !has_own_memory(weight) || at::autocast::is_autocast_enabled(at::kCPU)) {
    return false;
  }
  return std::min(weight.size(0), weight.size(1)) >= kNarrowest &&
         (weight.stride(0) == 1 || weight.stride(1) == 1) &&
         input.numel() >= kFewestRows * input.size(-1) && input.size(-1) == weight.size(1) &&
         (!bias.defined() || (has_own_memory(bias) && bias.dim() == 1 &&
                              bias.size(0) == weight.size(0) && bias.stride(0) == 1));
}

at::Tensor linear_outputs_by_amx(const at::Tensor& input, const at::Tensor& weight,
                                 const at::Tensor& bias) {
  const AmxSide matrix{weight.const_data_ptr<float>(), 0, weight.stride(1), weight.stride(0),
                       weight.size(0)};
  return product(input, matrix, bias);
}

at::Tensor linear_backprops_by_amx(const at::Tensor& backprops, const at::Tensor& weight) {
  const AmxSide matrix{weight.const_data_ptr<float>(), 0, weight.stride(0), weight.stride(1),
                       weight.size(1)};
  return product(backprops, matrix, {});
}

}  // namespace gradist::detail
