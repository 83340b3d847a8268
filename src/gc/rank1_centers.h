#pragma once

#include "gradients/gradient_batch.h"

#include <cstdint>
#include <vector>

namespace gradist {

/// K cluster centers, rank 1 per parameter: C_kl = e_kl c_kl^T with c_k [I], e_k [O]. [Faghri20]
/// section 3.2. A bias, and a parameter measured one example at a time, has I = 1 and so an exact
/// center.
struct Rank1Centers {
  struct Factors {
    at::Tensor input_side;   ///< c, [K, I]
    at::Tensor output_side;  ///< e, [K, O]
  };
  std::vector<Factors> parameters;  ///< L entries, dtype of the gradients

  int64_t clusters() const { return parameters.front().input_side.size(0); }

  /// sum_l ||C_kl - g_il||^2 from three inner products (Eqs. 5, 8, 9), clamped at 0, [B, K]
  /// float64. B K (I + O).
  at::Tensor squared_distances(const GradientBatch& batch) const;

  /// Center k becomes that of `other`'s cluster `from`.
  void replace(int64_t k, const Rank1Centers& other, int64_t from);
};

/// The U step, Eq. 6: c_k and e_k are the means of activations and of backprops over the cluster's
/// members. With S positions c_k is also a mean over positions and e_k a mean of the backprops'
/// sums, exact when the two are uncorrelated.
class CenterUpdate {
 public:
  CenterUpdate(const GradientBatch& like, int64_t clusters);

  /// Adds a batch whose examples belong to clusters `assignments` [B] (int64, CPU).
  void add(const GradientBatch& batch, const at::Tensor& assignments);

  /// The means; a cluster without members keeps its center in `former`, or gets the zero center
  /// when that is null.
  Rank1Centers centers(const Rank1Centers* former) const;

  const at::Tensor& sizes() const { return sizes_; }  ///< N_k, [K] float64

 private:
  struct Sums {
    at::Tensor input_side, output_side;  ///< [K, I], [K, O] float64
  };
  std::vector<Sums> sums_;
  std::vector<at::TensorOptions> options_;
  at::Tensor sizes_;
};

}  // namespace gradist
