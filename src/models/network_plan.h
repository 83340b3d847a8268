#pragma once

#include "models/activation.h"
#include "models/image_shape.h"
#include "models/network.h"

#include <ATen/core/Generator.h>
#include <c10/util/accumulate.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace gradist {

/// What a network is made from: all that the makers of the table of networks are given.
struct NetworkPlan {
  ModelOptions options;
  std::vector<int64_t> example;  ///< sizes of one example's input
  int64_t outputs;
  bool sparse;              ///< inputs are sparse, in compressed rows
  at::Generator generator;  ///< the caller's own, not a copy of its state

  /// Numbers in one example's input.
  int64_t inputs() const { return c10::multiply_integers(example); }

  /// A width of the published network, in this one.
  int64_t scaled(int64_t width) const {
    const double wanted = options.width * static_cast<double>(width);
    return std::max<int64_t>(1, std::llround(wanted));
  }
};

}  // namespace gradist
