#pragma once

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>

#include <string>
#include <vector>

namespace gradist {

/// Names that ModelOptions::init takes. With I inputs of a layer (C k^2 for a convolution):
///
///   torch  weights and biases U(-1/sqrt(I), 1/sqrt(I)), torch's own default
///   he     weights N(0, 2/I), biases 0. [He15]
///
/// Batch norm has weights of one and biases of zero under every name.
const std::vector<std::string>& initialisation_names();

/// Refuses other names.
void validate_initialisation(const std::string& name);

/// Draws the parameters of a network whose layers have drawn theirs as torch does: a name that asks
/// for nothing else draws nothing.
void initialise(torch::nn::Module& network, const std::string& name, at::Generator& generator);

}  // namespace gradist
