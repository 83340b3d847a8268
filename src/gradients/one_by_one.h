#pragma once

#include "gradients/gradient_batch.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace gradist {

/// The exact fallback for parameters no layer rule covers: gradients of `loss_of_example(i)`, i = 0
/// .. B - 1, with respect to `parameters`, by autograd one example at a time. Slow (B passes) and
/// obviously right. Method "one-by-one".
std::vector<FactoredGradients> one_by_one(const std::function<at::Tensor(int64_t)>& loss_of_example,
                                          int64_t examples, const ParameterList& parameters);

}  // namespace gradist
