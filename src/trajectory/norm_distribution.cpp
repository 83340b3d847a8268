#include "trajectory/norm_distribution.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>

namespace gradist {

namespace {

std::vector<double> sorted_values(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.numel() == 0) {
    return {};
  }
  const at::Tensor values = tensor.to(at::kCPU, at::kDouble).contiguous();
  std::vector<double> sorted(values.const_data_ptr<double>(),
                             values.const_data_ptr<double>() + values.numel());
  std::sort(sorted.begin(), sorted.end());
  return sorted;
}

}  // namespace

std::vector<double> norm_quantile_levels() {
  std::vector<double> levels(kNormQuantiles);
  for (int64_t i = 0; i < kNormQuantiles; ++i) {
    levels[i] = static_cast<double>(i) / (kNormQuantiles - 1);
  }
  return levels;
}

std::vector<double> norm_histogram_edges() {
  std::vector<double> edges(kNormBins + 1);
  for (int64_t i = 0; i <= kNormBins; ++i) {
    edges[i] = std::pow(10.0, 0.5 * static_cast<double>(i) - 16);
  }
  return edges;
}

std::vector<double> norm_quantiles(const at::Tensor& squared_norms) {
  const std::vector<double> sorted = sorted_values(squared_norms);
  std::vector<double> quantiles(kNormQuantiles, std::numeric_limits<double>::quiet_NaN());
  const std::vector<double> levels = norm_quantile_levels();
  for (size_t i = 0; i < levels.size() && !sorted.empty(); ++i) {
    const double position = levels[i] * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<size_t>(position);
    const size_t above = std::min(below + 1, sorted.size() - 1);
    quantiles[i] = std::lerp(sorted[below], sorted[above], position - static_cast<double>(below));
  }
  return quantiles;
}

std::vector<double> norm_histogram(const at::Tensor& squared_norms) {
  const std::vector<double> sorted = sorted_values(squared_norms);
  if (sorted.empty()) {
    return std::vector<double>(kNormBins, std::numeric_limits<double>::quiet_NaN());
  }
  std::vector<double> counts(kNormBins, 0);
  const std::vector<double> edges = norm_histogram_edges();
  for (const double value : sorted) {
    const auto above = std::upper_bound(edges.begin(), edges.end(), value) - edges.begin();
    ++counts[std::clamp<int64_t>(above - 1, 0, kNormBins - 1)];
  }
  return counts;
}

double top_percent_share(const at::Tensor& squared_norms) {
  const std::vector<double> sorted = sorted_values(squared_norms);
  const auto largest = static_cast<std::ptrdiff_t>((sorted.size() + 99) / 100);
  const double top = std::accumulate(sorted.end() - largest, sorted.end(), 0.0);
  return top / std::accumulate(sorted.begin(), sorted.end(), 0.0);
}

}  // namespace gradist
