#pragma once

#include "estimators/gradient_estimator.h"

#include <string>

namespace gradist {

/// Stochastic variance reduced gradient (Johnson and Zhang 2013): (1/B) sum (g_i - g~_i) + g~, the
/// snapshot's full gradient g~ corrected by a minibatch of differences. tr Cov = trCov of (g_i -
/// g~_i) / B with replacement.
class Svrg final : public GradientEstimator {
 public:
  Svrg(int64_t examples, int64_t batch_size, bool replacement, int64_t max_memory = 0)
      : design_(uniform_design(examples, batch_size, replacement)), max_memory_(max_memory) {}

  std::string name() const override { return "svrg"; }
  const SamplingDesign& design() const override { return design_; }
  const Snapshot* snapshot() const override { return &snapshot_; }

  /// Takes the present parameters as the snapshot: one pass over all examples; by minibatches that
  /// `generator` draws where examples do not separate.
  int64_t refresh(GradientSource& source, at::Generator& generator) override;

 private:
  SamplingDesign design_;
  int64_t max_memory_;
  Snapshot snapshot_;
};

/// The present parameters and state, their full gradient and second moments: one pass over all
/// examples.
Snapshot take_snapshot(GradientSource& source, int64_t max_memory = 0);

/// The mean over floor(N/B) minibatches S, one after the other in `order` [N], of the gradient of
/// F_S, which need not be a sum over examples, as by batch norm in train mode. float64, on the CPU.
/// [Defazio19]
ParameterList gradient_by_minibatches(GradientSource& source, const at::Tensor& order,
                                      int64_t batch_size);

/// The same as take_snapshot() where examples do not separate: g~ goes by the minibatches of a
/// permutation, as an epoch of training has them. There are no second moments.
Snapshot take_snapshot_by_minibatches(GradientSource& source, int64_t batch_size,
                                      at::Generator& generator);

}  // namespace gradist
