#include "gradients/amx_linear.h"

#include "gradients/amx.h"
#include "gradients/coordinate_grid.h"

#include <ATen/TensorSubclassLikeUtils.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace gradist::detail {
namespace {

/// Rows of x that may be worth the fetching of W, and the narrowest layer. From timings.
constexpr int64_t kFewestRows = 64, kNarrowest = 64;

/// Positions that are multiplied together, so that the columns of a range stay in L2. Fewer make
/// ranges wider, and rows are fetched for every range; but what is there of a sum is read again,
/// which costs little while that stays in L2 too.
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
  const auto threads = threads_worth(N * K * columns);
  const auto most = N * columns <= kSmall ? kPositionsOfSmall : kPositionsTogether;
  const auto together = divided_up(K, divided_up(K, most));
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
