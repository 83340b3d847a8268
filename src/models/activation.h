#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

namespace gradist {

/// What follows a layer, number by number.
using Activation = at::Tensor (*)(const at::Tensor&);

/// Names that ModelOptions::activation takes: relu, max(x, 0); elu, x where x > 0, else e^x - 1.
/// [Clevert16]
const std::vector<std::string>& activation_names();

/// The activation of a name, which must be one of them.
Activation activation(const std::string& name);

}  // namespace gradist
