#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace gradist {

/// A partition of N examples into K clusters. [Faghri20] section 3.1.
class Clustering {
 public:
  Clustering() = default;

  /// Assignments [N] (any integer dtype, values in [0, K)); K is one more than the largest unless
  /// given.
  explicit Clustering(const at::Tensor& assignments, int64_t clusters = 0);

  int64_t examples() const { return assignments_.numel(); }                 ///< N
  int64_t clusters() const { return static_cast<int64_t>(sizes_.size()); }  ///< K, empty ones too
  const at::Tensor& assignments() const { return assignments_; }            ///< [N] int64
  const std::vector<int64_t>& sizes() const { return sizes_; }              ///< N_k

  /// The examples of each cluster, ascending: K tensors [N_k] int64.
  const std::vector<at::Tensor>& members() const { return members_; }

  /// J = sum_k N_k SSE_k after each step of the algorithm that made it; `objective` is J of the
  /// assignments, exact.
  std::vector<double> history;
  double objective = 0;

  /// N_k^2 V_k = N_k SSE_k of each cluster, exact, at the parameters where it was made, [K]; empty
  /// for assignments of one's own.
  std::vector<double> scatter;

  /// The same of each parameter l alone, [L, K] float64, and ||g_i||^2 there, [N] float64;
  /// undefined for assignments of one's own.
  at::Tensor parameter_scatter, squared_norms;

  /// Wall time by kind of work of what made it: gradients, A step, U step, SVD; empty but for
  /// lloyd.
  std::map<std::string, double> seconds;

 private:
  at::Tensor assignments_;
  std::vector<int64_t> sizes_;
  std::vector<at::Tensor> members_;
};

/// K clusters cut from the examples in the order `order` [N]: sizes differ by at most one; when
/// more draws than clusters are planned (`draws` > K), sizes follow the whole draws a cluster will
/// get, so that the allocation stays proportional.
Clustering balanced_clustering(const at::Tensor& order, int64_t clusters, int64_t draws = 0);

/// Refuses numbers of clusters K and of planned draws (0: one a cluster) that no clustering of N
/// examples can have.
void check_clusters(int64_t clusters, int64_t draws, int64_t examples);

}  // namespace gradist
