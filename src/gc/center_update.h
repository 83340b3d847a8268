#pragma once

#include "gc/factored_centers.h"
#include "gradients/visit.h"

#include <cstdint>
#include <vector>

namespace gradist {

/// The U step, one class for each kind of center. Both blend: a cluster whose former center stands
/// for n examples gets (d n C + sum of its new members) / (d n + new members), with decay d in [0,
/// 1]; 0 forgets all that came before, 1 forgets nothing. One without new members keeps its center.

/// Eq. 6: c_k and e_k are the means of activations and of backprops over the cluster's members.
/// With S positions c_k is also a mean over positions and e_k a mean of the backprops' sums, exact
/// when the two are uncorrelated. The blend is of c and e. Rank 1. B S (I + O).
class FactorMeans {
 public:
  FactorMeans(const GradientBatch& like, int64_t clusters);

  /// Adds a batch whose examples belong to clusters `assignments` [B] (int64, CPU).
  void add(const GradientBatch& batch, const at::Tensor& assignments);

  /// The means; a cluster without members has a zero center where there is no former one.
  FactoredCenters centers(const FactoredCenters* former, double decay = 0) const;

 private:
  struct Sums {
    at::Tensor input_side, output_side;  ///< [K, I], [K, O] float64
  };
  std::vector<Sums> sums_;
  std::vector<at::TensorOptions> options_;
  at::Tensor sizes_;  ///< [K] float64
};

/// Eq. 4, and then the nearest matrix of rank R by truncated SVD [Eckart36], min(R, I, O) for each
/// parameter: at R = min(I, O) the mean gradient itself. Examples come in cluster order, so that
/// one mean gradient is formed at a time: P numbers, never K x P. B S I O, and for each cluster
/// and parameter I O min(I, O) and the eigenvectors of a square matrix of min(I, O).
class TruncatedMeans {
 public:
  /// `former` (null: none, and zero centers for clusters without members) is read while it lives.
  TruncatedMeans(const GradientBatch& like, int64_t clusters, int64_t rank,
                 const FactoredCenters* former, double decay = 0);

  /// Adds the examples of one chunk (visit.h).
  void add(const GradientBatch& batch, const std::vector<Segment>& segments);

  const FactoredCenters& centers() const { return centers_; }

  double svd_seconds() const { return svd_seconds_; }  ///< wall time of the truncations

 private:
  void close(int64_t cluster);

  const FactoredCenters* former_;
  double decay_;
  FactoredCenters centers_;
  std::vector<at::Tensor> sums_;  ///< of the open cluster, [O, I] float64 each
  int64_t members_ = 0;           ///< of the open cluster
  double svd_seconds_ = 0;
};

/// The nearest matrix of rank R to [O, I] in the Frobenius norm, as c [R, I] and e [R, O] with
/// sum_r e_r c_r^T; R <= min(I, O). float64. From the eigenvectors of the smaller of M M^T and M^T
/// M: the error is the least up to rounding of ||M||^2.
FactoredCenters::Factors nearest_of_rank(const at::Tensor& matrix, int64_t rank);

}  // namespace gradist
