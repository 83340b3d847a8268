#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace gradist {

/// Standardisation of inputs, x <- (x - mean) / deviation. Both are float32 and broadcast over an
/// example; undefined ones leave x alone.
struct InputScale {
  at::Tensor mean = {};
  at::Tensor deviation = {};  ///< one where it would be zero: constant inputs

  /// Standardises in place.
  void apply(at::Tensor& inputs) const;
};

/// Reads the inputs of `count` examples from `begin` on.
using RangeReader = std::function<at::Tensor(int64_t begin, int64_t count)>;

/// Mean and population deviation of inputs of these sizes: one pair per feature of a table, one per
/// channel of images [N, C, H, W], and one pair for anything else.
///
/// In one pass over pieces of 2^20 numbers in float64: of n_a numbers before and n_b in a piece,
/// with sums of squares about their own means M_a and M_b, d = mean_b - mean_a and n = n_a + n_b
///   mean = mean_a + d n_b / n,   M = M_a + M_b + d^2 n_a n_b / n   [Chan83]
/// so inputs in memory and inputs in files give the same bits.
InputScale scale_of(at::IntArrayRef sizes, bool by_feature, const RangeReader& read);

}  // namespace gradist
