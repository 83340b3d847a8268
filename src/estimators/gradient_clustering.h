#pragma once

#include "estimators/gradient_estimator.h"
#include "gc/descent.h"
#include "gc/lloyd.h"

#include <optional>
#include <string>
#include <variant>

namespace gradist {

/// Gradient Clustering: stratified draws from clusters of per-example gradients, [Faghri20] Eq. 1.
/// One draw a cluster when K = B; for K < B whole draws b_k by an allocation. tr Cov = N^-2
/// sum_k N_k^2 V_k / b_k, Proposition 3.1. Clusters are the paper's (`gc`), or those of the descent
/// (`gc-descent`), which begins each refresh at the former ones; `gc-importance` draws within them
/// by the norms at the refresh (with_importance).
class GradientClustering final : public GradientEstimator {
 public:
  using Algorithm = std::variant<LloydOptions, DescentOptions>;

  /// `draws` b in all; those in the options are set to it.
  GradientClustering(std::string name, int64_t draws, Algorithm algorithm,
                     Allocation allocation = Allocation::kProportional,
                     std::optional<double> importance_mix = std::nullopt);

  std::string name() const override { return name_; }
  const SamplingDesign& design() const override { return design_; }
  const Clustering* clustering() const override { return &clustering_; }

  /// Clusters the examples anew at the present parameters.
  int64_t refresh(GradientSource& source, at::Generator& generator) override;

  /// Samples from clusters made elsewhere.
  void set_clustering(Clustering clustering);

 private:
  std::string name_;
  int64_t draws_;
  Allocation allocation_;
  std::optional<double> importance_mix_;  ///< undefined: uniform draws within clusters
  bool replacement_;
  Algorithm algorithm_;
  DescentMemory memory_;
  Clustering clustering_;
  SamplingDesign design_;
};

}  // namespace gradist
