#pragma once

#include <ATen/core/Tensor.h>

namespace gradist::detail {

/// For the rows of x and y [B, n], in one pass over memory and float64: |x|^2, x . (x - y), |x -
/// y|^2, each [B]. The three inner products that ||d a^T - e b^T||^2 needs of each side, without a
/// difference of large norms.
struct RowProducts {
  at::Tensor squared, cross, difference;
};
RowProducts row_products(const at::Tensor& x, const at::Tensor& y);

}  // namespace gradist::detail
