#include "gradients/row_products.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>

#include <array>

namespace gradist::detail {
namespace {

/// Partial sums side by side, so that the compiler may vectorise; a fixed order of summation.
constexpr int64_t kLanes = 8;
using Lanes = std::array<double, kLanes>;

double total(const Lanes& lanes) {
  double sum = 0;
  for (const auto lane : lanes) {
    sum += lane;
  }
  return sum;
}

template <typename Scalar>
void one_row(const Scalar* x, const Scalar* y, int64_t n, double* squared, double* cross,
             double* difference) {
  Lanes xx{}, xd{}, dd{};
  const auto add = [&](int64_t j, size_t lane) {
    const auto value = static_cast<double>(x[j]);
    const auto delta = value - static_cast<double>(y[j]);
    xx[lane] += value * value;
    xd[lane] += value * delta;
    dd[lane] += delta * delta;
  };
  int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      add(j + static_cast<int64_t>(lane), lane);
    }
  }
  for (; j < n; ++j) {
    add(j, 0);
  }
  *squared = total(xx);
  *cross = total(xd);
  *difference = total(dd);
}

RowProducts on_cpu(const at::Tensor& x, const at::Tensor& y) {
  const auto rows = x.size(0), n = x.size(1);
  RowProducts result{at::empty({rows}, at::kDouble), at::empty({rows}, at::kDouble),
                     at::empty({rows}, at::kDouble)};
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "row_products", [&] {
    const auto* left = x.const_data_ptr<scalar_t>();
    const auto* right = y.const_data_ptr<scalar_t>();
    auto* squared = result.squared.data_ptr<double>();
    auto* cross = result.cross.data_ptr<double>();
    auto* difference = result.difference.data_ptr<double>();
    at::parallel_for(0, rows, 64, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        one_row(left + r * n, right + r * n, n, squared + r, cross + r, difference + r);
      }
    });
  });
  return result;
}

}  // namespace

RowProducts row_products(const at::Tensor& x, const at::Tensor& y) {
  if (x.is_cpu() && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble)) {
    return on_cpu(x.contiguous(), y.contiguous());
  }
  const auto value = x.to(at::kDouble);
  const auto delta = value - y.to(at::kDouble);
  return {value.square().sum(1), (value * delta).sum(1), delta.square().sum(1)};
}

}  // namespace gradist::detail
