#pragma once

#include "estimators/gradient_estimator.h"

#include <string>

namespace gradist {

/// Importance sampling by the norms at the last refresh: draws with p_i ~ (1 - mix) ||g_i|| / mean
/// ||g|| + mix and weights 1 / (N B p_i). [Zhao15] tr Cov = (1/B) (N^-2 sum_i ||g_i||^2 / p_i -
/// ||g||^2), least where p_i is in proportion to the present norms.
class Importance final : public GradientEstimator {
 public:
  Importance(int64_t draws, double mix, int64_t max_memory = 0)
      : draws_(draws), mix_(mix), max_memory_(max_memory) {}

  std::string name() const override { return "sg-importance"; }
  const SamplingDesign& design() const override { return design_; }

  /// Norms at the present parameters: one pass over all examples.
  int64_t refresh(GradientSource& source, at::Generator& generator) override;

 private:
  int64_t draws_;
  double mix_;
  int64_t max_memory_;
  SamplingDesign design_;
};

}  // namespace gradist
