#pragma once

#include "gc/clustering.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gradist {

/// What multiplies ||g_i - C_k||^2 in the A step.
enum class Weighting {
  kRunning,  ///< N_k without example i, plus one, kept current as examples move
  kFixed,    ///< N_k as the last N_k step counted them. [Faghri20] Eq. 3, as printed
  kNone,     ///< nothing: k-means
};

/// "running", "fixed", "none".
const std::vector<std::string>& weighting_names();
Weighting weighting_by_name(const std::string& name);

/// The clusters of N examples between A steps, and what the A steps saw of them.
struct AssignedExamples {
  AssignedExamples(int64_t examples, int64_t clusters);

  /// From a partition; distances are 0 until an A step sees them.
  explicit AssignedExamples(const Clustering& clustering);

  at::Tensor assignments;      ///< [N] int64; -1 before an example's first A step
  at::Tensor distances;        ///< [N] float64, ||g_i - C||^2 when it was assigned to C
  std::vector<int64_t> sizes;  ///< N_k, always current

  /// Sum of `distances` over each cluster, [K].
  std::vector<double> sse() const;

  /// sum_k N_k sse_k.
  double objective() const;

  /// The k of largest N_k sse_k.
  int64_t most_scattered() const;

  /// The A step for some examples: each goes to the cluster where weight times distance is least,
  /// of equal ones the first. `indices` [B] int64, `squared_distances` [B, K] float64. `counted` is
  /// what Weighting::kFixed multiplies by.
  void reassign(const at::Tensor& indices, const at::Tensor& squared_distances, Weighting weighting,
                const std::vector<int64_t>& counted);
};

}  // namespace gradist
