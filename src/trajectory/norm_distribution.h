#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace gradist {

/// How the per-example squared norms ||g_i||^2 are distributed, in numbers of fixed length.

inline constexpr int64_t kNormQuantiles = 21;
inline constexpr int64_t kNormBins = 64;

/// The levels 0, 0.05, ..., 1.
std::vector<double> norm_quantile_levels();

/// Edges of the histogram's bins, [65]: 10^-16, 10^-15.5, ..., 10^16.
std::vector<double> norm_histogram_edges();

/// Quantiles of the norms [n] at those levels, linear between order statistics; NaN where there are
/// no norms.
std::vector<double> norm_quantiles(const at::Tensor& squared_norms);

/// How many norms lie in [edge_b, edge_b+1); what lies outside counts in the first or the last bin.
/// NaN where there are none.
std::vector<double> norm_histogram(const at::Tensor& squared_norms);

/// The share of sum_i ||g_i||^2 that the largest 1 % of the norms carry (n / 100 of them, rounded
/// up), in [0, 1]; NaN where the sum is zero or there are no norms. Above 1/2 a few examples decide
/// every variance.
double top_percent_share(const at::Tensor& squared_norms);

}  // namespace gradist
