#pragma once

#include "estimators/gradient_estimator.h"

#include <string>

namespace gradist {

/// Plain minibatches, (1/n) sum of n uniform draws: SG-B with n = B, SG-2B with n = 2 B. tr Cov =
/// trCov / n with replacement.
class Minibatch final : public GradientEstimator {
 public:
  Minibatch(std::string name, int64_t examples, int64_t draws, bool replacement)
      : name_(std::move(name)), design_(uniform_design(examples, draws, replacement)) {}

  std::string name() const override { return name_; }
  const SamplingDesign& design() const override { return design_; }

 private:
  std::string name_;
  SamplingDesign design_;
};

}  // namespace gradist
