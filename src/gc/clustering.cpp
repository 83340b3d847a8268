#include "gc/clustering.h"

#include <ATen/ops/argsort.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>

#include <algorithm>

namespace gradist {

Clustering::Clustering(const at::Tensor& assignments, int64_t clusters) {
  TORCH_CHECK_VALUE(assignments.dim() == 1 && assignments.numel() > 0 &&
                        at::isIntegralType(assignments.scalar_type(), /*includeBool=*/false),
                    "assignments must be a non-empty vector of integers, one an example, not ",
                    assignments.scalar_type(), " ", assignments.sizes());
  assignments_ = assignments.to(at::kCPU, at::kLong).contiguous().clone();
  const auto lowest = assignments_.min().item<int64_t>();
  const auto highest = assignments_.max().item<int64_t>();
  if (clusters == 0) {
    clusters = highest + 1;
  }
  TORCH_CHECK_VALUE(lowest >= 0 && highest < clusters, "assignments must lie in [0, ", clusters,
                    "), found ", lowest < 0 ? lowest : highest);
  TORCH_CHECK_VALUE(clusters <= examples(), "clusters = ", clusters,
                    ": must be <= the number of examples, ", examples());
  sizes_.assign(static_cast<size_t>(clusters), 0);
  const auto* values = assignments_.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < examples(); ++i) {
    ++sizes_[static_cast<size_t>(values[i])];
  }
  const auto order = at::argsort(assignments_, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  int64_t begin = 0;
  for (const auto size : sizes_) {
    members_.push_back(order.slice(0, begin, begin + size));
    begin += size;
  }
}

Clustering balanced_clustering(const at::Tensor& order, int64_t clusters, int64_t draws) {
  const auto examples = order.numel();
  const auto pieces = std::min(std::max(draws, clusters), examples);
  auto assignments = at::empty_like(order);
  auto* values = assignments.data_ptr<int64_t>();
  const auto positions = order.contiguous();
  for (int64_t p = 0; p < examples; ++p) {
    values[positions.const_data_ptr<int64_t>()[p]] = (p * pieces / examples) * clusters / pieces;
  }
  return Clustering(assignments, clusters);
}

void check_clusters(int64_t clusters, int64_t draws, int64_t examples) {
  TORCH_CHECK_VALUE(clusters >= 1 && clusters <= examples, "clusters = ", clusters,
                    ": must lie in [1, ", examples, "], the number of examples");
  TORCH_CHECK_VALUE(draws == 0 || draws >= clusters, "draws = ", draws,
                    ": must be >= the number of clusters, ", clusters,
                    ", so that each is drawn from");
}

}  // namespace gradist
