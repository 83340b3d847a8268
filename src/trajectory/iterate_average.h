#pragma once

#include "gradients/gradient_source.h"

#include <cstdint>

namespace gradist {

/// How many iterates are averaged of the U = `interval` between two refreshes: round(x U) for a
/// share 0 < x <= 1, at least one; none for x = 0.
int64_t averaged_iterates(double share, int64_t interval);

/// The mean of the last n = averaged_iterates(x, U) iterates before each refresh, from which the
/// next interval starts, [Defazio19] section 2 with x = 1, 0.5, 0.1:
///
///     w_kU <- (1/n) (w_{kU-n+1} + ... + w_kU),   k = 1, 2, ...   w_t after t steps
///
/// Sums are in float64: P more numbers. n = 1 is the last iterate, bit for bit, as is x = 0. The
/// mean is of parameters alone: the optimiser's momentum goes on as it was, and so do batch norm's
/// running statistics, which are averages over the last minibatches already.
class IterateAverage {
 public:
  /// `share` in [0, 1], `interval` >= 1.
  IterateAverage(double share, int64_t interval);

  /// After the step that made them iterate `iteration` >= 1.
  void add(int64_t iteration, const ParameterList& parameters);

  /// The parameters become the mean of what was added since the last time; nothing, where nothing
  /// was.
  void move_to_mean(const ParameterList& parameters);

 private:
  int64_t interval_, averaged_;
  int64_t count_ = 0;
  ParameterList sums_;  ///< float64, of `count_` iterates
};

}  // namespace gradist
