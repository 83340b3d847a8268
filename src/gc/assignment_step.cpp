#include "gc/assignment_step.h"

#include "choice.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>

namespace gradist {

const std::vector<std::string>& weighting_names() {
  static const std::vector<std::string> names = {"running", "fixed", "none"};
  return names;
}

Weighting weighting_by_name(const std::string& name) {
  return choice_by_name<Weighting>("gc-weighting", weighting_names(), name);
}

AssignedExamples::AssignedExamples(int64_t examples, int64_t clusters)
    : assignments(at::full({examples}, -1, at::kLong)),
      distances(at::zeros({examples}, at::kDouble)),
      sizes(static_cast<size_t>(clusters), 0) {}

AssignedExamples::AssignedExamples(const Clustering& clustering)
    : assignments(clustering.assignments().clone()),
      distances(at::zeros({clustering.examples()}, at::kDouble)),
      sizes(clustering.sizes()) {}

std::vector<double> AssignedExamples::sse() const {
  std::vector<double> sums(sizes.size(), 0.0);
  const auto* cluster = assignments.const_data_ptr<int64_t>();
  const auto* distance = distances.const_data_ptr<double>();
  for (int64_t i = 0; i < assignments.numel(); ++i) {
    sums[static_cast<size_t>(cluster[i])] += distance[i];
  }
  return sums;
}

double AssignedExamples::objective() const {
  const auto sums = sse();
  double total = 0;
  for (size_t k = 0; k < sizes.size(); ++k) {
    total += static_cast<double>(sizes[k]) * sums[k];
  }
  return total;
}

int64_t AssignedExamples::most_scattered() const {
  auto scatter = sse();
  for (size_t k = 0; k < sizes.size(); ++k) {
    scatter[k] *= static_cast<double>(sizes[k]);
  }
  return std::max_element(scatter.begin(), scatter.end()) - scatter.begin();
}

void AssignedExamples::reassign(const at::Tensor& indices, const at::Tensor& squared_distances,
                                Weighting weighting, const std::vector<int64_t>& counted) {
  const auto cost = squared_distances.accessor<double, 2>();
  const auto* examples = indices.const_data_ptr<int64_t>();
  auto* cluster = assignments.data_ptr<int64_t>();
  auto* distance = distances.data_ptr<double>();
  const auto weight = [&](size_t k) {
    return weighting == Weighting::kNone    ? 1.0
           : weighting == Weighting::kFixed ? static_cast<double>(counted[k])
                                            : static_cast<double>(sizes[k] + 1);
  };
  for (int64_t row = 0; row < squared_distances.size(0); ++row) {
    const auto i = examples[row];
    if (cluster[i] >= 0) {
      --sizes[static_cast<size_t>(cluster[i])];
    }
    int64_t best = 0;
    double lowest = std::numeric_limits<double>::infinity();
    for (int64_t k = 0; k < squared_distances.size(1); ++k) {
      const auto weighted = weight(static_cast<size_t>(k)) * cost[row][k];
      if (weighted < lowest) {
        lowest = weighted;
        best = k;
      }
    }
    cluster[i] = best;
    distance[i] = cost[row][best];
    ++sizes[static_cast<size_t>(best)];
  }
}

}  // namespace gradist
