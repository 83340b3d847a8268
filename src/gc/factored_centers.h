#pragma once

#include "gradients/gradient_batch.h"

#include <cstdint>
#include <vector>

namespace gradist {

/// K cluster centers, of rank R per parameter: C_kl = sum_r e_klr c_klr^T with c_k [R, I], e_k [R,
/// O]. [Faghri20] section 3.2 for R = 1. The R terms of a center are orthogonal to each other
/// (their c or their e are), so that their squared norms add up.
struct FactoredCenters {
  struct Factors {
    at::Tensor input_side;   ///< c, [K, R, I]
    at::Tensor output_side;  ///< e, [K, R, O]

    at::Tensor formed() const;  ///< C_k, [K, O, I]
  };
  std::vector<Factors> parameters;  ///< L entries, dtype of the gradients; R may differ
  at::Tensor weights;  ///< examples behind each center, former ones decayed, [K] float64

  int64_t clusters() const { return weights.numel(); }

  /// sum_l ||C_kl||^2, [K] float64. K R (I + O).
  at::Tensor squared_norms() const;

  /// sum_l ||C_kl - g_il||^2 from three inner products (Eqs. 5, 8, 9), clamped at 0, [B, K]
  /// float64, with `center_norms` of all batches what `squared_norms` gives. B K R (I + O), or for
  /// each parameter where it is cheaper by forming gradients and centers.
  at::Tensor squared_distances(const GradientBatch& batch, const at::Tensor& center_norms) const;

  /// Center k becomes that of `other`'s cluster `from`.
  void replace(int64_t k, const FactoredCenters& other, int64_t from);
};

}  // namespace gradist
