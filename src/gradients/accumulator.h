#pragma once

#include "gradients/gradient_batch.h"
#include "gradients/kernels.h"
#include "gradients/visit.h"

#include <cstdint>
#include <vector>

namespace gradist {

/// The one place where anything is summed over examples (and, later, over processes): all sums in
/// float64.
///
/// For strata k (one: all examples; or the clusters), visited in order, it keeps per coordinate j
///
///   sum_j     = sum_k u_k S_kj,              S_kj = sum_{i in k} g_ij
///   squares_j = sum_k u_k Q_kj,              Q_kj = sum_{i in k} g_ij^2
///   within_j  = sum_k c_k (Q_kj - S_kj^2 / n_k)
///
/// and per parameter l and stratum k  R_kl = sum_{i in k} ||g_il||^2  and  ||S_kl||^2, from which
/// every trace follows. u_k is 1 when a stratum is visited whole, N_k / n_k when n_k of its N_k
/// members are.
class MomentAccumulator {
 public:
  struct Options {
    std::vector<double> visit_weights;   ///< u_k
    std::vector<double> within_weights;  ///< c_k; empty: `within` is not wanted
    std::vector<int64_t> visited;        ///< n_k
    bool per_coordinate_squares = true;  ///< keep `squares` and `within`
  };

  MomentAccumulator(const ParameterList& like, Options options);

  /// Adds the examples of one chunk; `squared_norms` is batch.squared_norms_per_parameter(), [L,
  /// B].
  void add(const GradientBatch& batch, const at::Tensor& squared_norms,
           const std::vector<Segment>& segments);

  /// The same with squares of other gradients, of the same examples and shapes, in the place of
  /// g_ij^2.
  void add(const GradientBatch& batch, const GradientBatch& squared,
           const at::Tensor& squared_norms, const std::vector<Segment>& segments);

  /// The sums per coordinate, L tensors in float64 each, on the parameters' device.
  const ParameterList& sum() const { return sum_; }
  const ParameterList& squares() const { return squares_; }
  const ParameterList& within() const { return within_; }

  /// R_kl and ||S_kl||^2, [L, K] float64 on the CPU.
  const at::Tensor& squared_norms() const { return squared_norms_; }
  const at::Tensor& stratum_sum_squared_norms() const { return sum_squared_norms_; }

 private:
  void add_parameter(size_t parameter, const FactoredGradients& gradients,
                     const FactoredGradients& squared, const std::vector<Segment>& segments);
  kernels::SegmentWeights weights_of(const Segment& segment, bool continued) const;

  Options options_;
  ParameterList sum_, squares_, within_;
  ParameterList open_sum_;  ///< S_k of a stratum cut by the end of a chunk
  bool stratum_open_ = false;
  at::Tensor squared_norms_, sum_squared_norms_;
};

}  // namespace gradist
