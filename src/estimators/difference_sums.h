#pragma once

#include "estimators/gradient_estimator.h"
#include "gradients/accumulator.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace gradist::detail {

/// How the sums of (g_ij - g~_ij)^2 are formed.
enum class DifferenceForm {
  kZero,    ///< parameters and state are the snapshot's, bit for bit
  kStable,  ///< sum of squares of (d - d~) a^T + d~ (a - a~)^T: three products, right however small
            ///< the difference
  kExpanded,  ///< sum g^2 - 2 sum g g~ + sum g~^2: one product, the last sum known from the
              ///< refresh; for larger differences
};

/// Stable while the differences' squared norms are under 1 % of the gradients', judged on 256
/// evenly spaced examples: there the expanded form loses at most two digits. Depends on the
/// parameters alone, so that runs repeat bit for bit.
DifferenceForm choose_difference_form(GradientSource& source, const Snapshot& snapshot);

/// Sums over examples of x_i = g_i - g~_i. Norms always come from the stable form.
class DifferenceSums {
 public:
  /// `examples` n are visited, each counting `weight` times.
  DifferenceSums(const ParameterList& like, DifferenceForm form, int64_t examples, double weight);

  void add(const GradientBatch& batch, const GradientBatch& at_snapshot, bool last_chunk);

  std::vector<double> squared_norms() const;  ///< sum_i ||x_il||^2, [L]

  /// sum_i x_ij and sum_i x_ij^2, given those of g_i (which the expanded form needs; it is for
  /// exact passes only).
  ParameterList sum(const ParameterList& gradient_sum, const Snapshot& snapshot,
                    int64_t examples) const;
  ParameterList squares(const ParameterList& gradient_squares, const Snapshot& snapshot) const;

 private:
  DifferenceForm form_;
  double weight_;
  MomentAccumulator sums_;  ///< of x_i, or of the products g_i g~_i
};

}  // namespace gradist::detail
