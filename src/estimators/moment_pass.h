#pragma once

#include "estimators/difference_sums.h"
#include "estimators/gradient_estimator.h"
#include "estimators/moments.h"
#include "gradients/accumulator.h"

#include <cstdint>
#include <vector>

namespace gradist::detail {

/// The examples one pass visits, stratum by stratum: n_k of the N_k members, all of them in an
/// exact pass.
struct PassPlan {
  std::vector<at::Tensor> visited;  ///< K tensors [n_k] int64
  std::vector<int64_t> sizes;       ///< N_k
  const GradientEstimator* stratified =
      nullptr;  ///< whose design the strata are; null: one stratum of everything
  const Snapshot* snapshot = nullptr;  ///< measure g_i - g~_i too
  bool exact = true;
  bool per_coordinate = false;  ///< variances are looked at coordinate by coordinate
};

/// What one pass over examples found, enough for the moments of every estimator that shares it
/// (docs/measuring.md).
///
/// With n of N examples visited and x_i = g_i or g_i - g~_i, the population's variance per
/// coordinate is (N - 1) / N  n / (n - 1)  (mean x_i^2 - (mean x_i)^2): exact when n = N, unbiased
/// when the n are a uniform sample. Within strata alike. Intervals are for passes that are not
/// exact.
class MomentPass {
 public:
  MomentPass(GradientSource& source, PassPlan plan, int64_t max_memory);

  /// Moments of an estimator this pass serves: `plan.stratified`, one with `plan.snapshot`, or a
  /// plain uniform one (exact passes, and passes of one stratum).
  Moments moments(const GradientEstimator& estimator) const;

  const ParameterList& full_gradient() const { return full_gradient_; }
  double squared_gradient_norm() const { return squared_gradient_norm_; }

  /// The examples visited, [n] in that order, and their ||g_i||^2, [n] float64.
  const at::Tensor& indices() const { return indices_; }
  const at::Tensor& squared_norms() const { return squared_norms_; }

  double mean_loss() const { return mean_loss_; }

 private:
  /// Estimates of sums over all N examples of x_i, x_ij^2, ||x_i||^2, and the deviations an
  /// interval needs.
  struct Population {
    ParameterList sum, squares;
    std::vector<double> squared_norms;  ///< [L]
    /// q_i = ||x_i - mean||^2 about the stratum's mean, [n]; only when the pass is not exact.
    at::Tensor deviations;
  };

  void visit(GradientSource& source, int64_t max_memory);
  at::Tensor ratios() const;
  void finish(const MomentAccumulator& sums);
  Moments uniform_moments(const GradientEstimator& estimator) const;
  Moments stratified_moments() const;
  void compare_with_plain(Moments& moments) const;
  double uniform_trace(const Population& population) const;
  std::vector<double> within_weights() const;
  MomentAccumulator::Options accumulator_options() const;
  DifferenceForm difference_form(GradientSource& source) const;
  void add_stratified_interval(Moments& moments) const;
  MomentInputs common_inputs() const;

  PassPlan plan_;
  std::vector<int64_t> layer_sizes_;
  int64_t examples_ = 0;  ///< N
  int64_t visited_ = 0;   ///< n
  Population gradients_, differences_;
  std::vector<double> stratified_traces_;
  ParameterList stratified_variance_;
  ParameterList full_gradient_, squared_gradient_;
  double squared_gradient_norm_ = 0;
  at::Tensor indices_, squared_norms_;
  double mean_loss_ = kUndefined;
};

}  // namespace gradist::detail
