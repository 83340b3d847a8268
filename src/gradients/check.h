#pragma once

#include "gradients/gradient_source.h"

#include <cstdint>
#include <string>
#include <vector>

namespace gradist {

/// One parameter's per-example gradients g_i against those of plain autograd, g'_i.
struct ParameterCheck {
  std::string name;
  std::vector<int64_t> shape;
  std::string method;  ///< the layer rule, or "one-by-one"

  /// The larger of max_ij |g_ij - g'_ij| and max_i | ||g_i|| - ||g'_i|| |, over max_i ||g'_i||, or
  /// over a millionth of that norm with respect to all parameters where that is larger (a gradient
  /// that is 0 has no digits to lose).
  double error = 0;
};

/// What `check_gradients` found.
struct GradientCheck {
  std::vector<ParameterCheck> parameters;
  int64_t examples = 0;
  double tolerance = 0;  ///< the largest error that is rounding: 1e-10 in float64, 1e-5 in float32

  double largest() const;
  bool ok() const { return largest() <= tolerance; }
};

/// Holds the source's per-example gradients at `indices` [B] (int64, CPU) against one plain
/// backward pass an example. B passes and the memory of B gradients: a few examples are enough.
GradientCheck check_gradients(GradientSource& source, const at::Tensor& indices);

}  // namespace gradist
