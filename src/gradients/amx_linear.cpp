#include "gradients/amx_linear.h"

#include "gradients/amx.h"
#include "gradients/coordinate_grid.h"

#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/matmul.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace gradist::detail {
namespace {

/// Rows of x that are worth the fetching of W, and the narrowest layer. From timings.
constexpr int64_t kFewestRows = 512, kNarrowest = 64;

/// Positions that are multiplied together: the rows' part of a block stays in L1, the columns of a
/// range in L2.
constexpr int64_t kPositionsTogether = 512;

/// Float32 on the CPU, and neither wrapped, as inside torch.func, nor with a tangent.
bool has_own_memory(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.layout() == at::kStrided && tensor.scalar_type() == at::kFloat &&
         !at::isTensorSubclassLike(tensor) && !tensor._fw_grad(/*level=*/0).defined();
}

/// [..., n] as [rows, n] in its own memory, evenly apart and the numbers of one side by side; else
/// undefined.
at::Tensor as_rows(const at::Tensor& values) {
  if (!has_own_memory(values) || values.stride(-1) != 1) {
    return {};
  }
  for (auto i = values.dim() - 2; i > 0; --i) {
    if (values.stride(i - 1) != values.size(i) * values.stride(i)) {
      return {};
    }
  }
  return values.reshape({-1, values.size(-1)});
}

/// x M + shift for x [..., K] and a matrix M [K, columns], whose number (k, c) is `matrix`'s number
/// c at position k. Undefined if x has no rows, or a product is infinite: AMX gives NaN then.
at::Tensor product(const at::Tensor& x, const AmxSide& matrix, const at::Tensor& shift) {
  const auto rows = as_rows(x);
  if (!rows.defined()) {
    return {};
  }
  const auto N = rows.size(0), K = rows.size(1), columns = matrix.numbers;
  auto shape = x.sizes().vec();
  shape.back() = columns;
  auto result = at::empty(shape, x.options());
  const auto threads = threads_worth(N * K * columns);
  const auto together = divided_up(K, divided_up(K, kPositionsTogether));
  const CoordinateGrid grid(N, columns, kAmxTile, {N, kAmxColumnNumbers / together}, threads);
  std::vector<double> squares(static_cast<size_t>(grid.size()));
  for_each_range(grid, threads, [&](int64_t part) {
    for (int64_t k = 0; k < K; k += together) {
      const auto* from = rows.const_data_ptr<float>() + k;
      auto columns_from_k = matrix;
      columns_from_k.data += k * matrix.position;
      AmxResult sums{.sum = result.data_ptr<float>(),
                     .shift = nullptr,
                     .fresh = k == 0,
                     .squared_norms = &squares[static_cast<size_t>(part)],
                     .row_sums = nullptr};
      if (k == 0 && shift.defined()) {
        sums.shift = shift.const_data_ptr<float>();
      }
      multiply_by_amx(
          {{from, 0, 1, rows.stride(0), N}, columns_from_k, 1, std::min(together, K - k)},
          grid[part], sums);
    }
  });
  const bool finite = std::all_of(squares.begin(), squares.end(),
                                  [](double square) { return std::isfinite(square); });
  return finite ? result : at::Tensor();
}

/// d W for d [B, ..., O].
at::Tensor backprops_times(const at::Tensor& d, const at::Tensor& weight) {
  if (!at::GradMode::is_enabled()) {  // else this will be differentiated itself
    const AmxSide matrix{weight.const_data_ptr<float>(), 0, weight.stride(0), weight.stride(1),
                         weight.size(1)};
    if (const auto result = product(d, matrix, {}); result.defined()) {
      return result;
    }
  }
  return at::matmul(d, weight);
}

/// `output`, which has been computed already, as a function of `input`.
struct LinearByAmx : torch::autograd::Function<LinearByAmx> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& /*input*/,
                            const at::Tensor& weight, const at::Tensor* output) {
    context->save_for_backward({weight});
    return *output;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& grads) {
    const auto weight = context->get_saved_variables()[0];
    return {backprops_times(grads[0], weight), at::Tensor(), at::Tensor()};
  }
};

bool fits(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
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

}  // namespace

at::Tensor linear_by_amx(const at::Tensor& input, const at::Tensor& weight,
                         const at::Tensor& bias) {
  if (!fits(input, weight, bias)) {
    return {};
  }
  const AmxSide matrix{weight.const_data_ptr<float>(), 0, weight.stride(1), weight.stride(0),
                       weight.size(0)};
  const auto output = product(input.detach(), matrix, bias);
  return output.defined() ? LinearByAmx::apply(input, weight, &output) : output;
}

}  // namespace gradist::detail
