#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace gradist {

/// Picks K of m examples by k-means++ [Arthur07]: each next one with probability proportional to
/// its squared distance from the nearest one picked. `gram` [m, m] float64 holds inner products.
/// Copies of picked examples come last.
std::vector<int64_t> kmeans_plus_plus(const at::Tensor& gram, int64_t clusters,
                                      at::Generator& generator);

}  // namespace gradist
