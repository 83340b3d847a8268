#include "models/initialisation.h"

#include "models/batch_norm_layer.h"
#include "models/sparse_linear_layer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>

namespace gradist {
namespace {

void draw_he(at::Tensor& parameter, bool inputs_first, at::Generator& generator) {
  if (parameter.dim() < 2) {
    parameter.zero_();
    return;
  }
  const auto inputs = static_cast<double>(parameter.numel() / parameter.size(inputs_first ? 1 : 0));
  parameter.normal_(0, std::sqrt(2 / inputs), generator);
}

void initialise_he(torch::nn::Module& network, at::Generator& generator) {
  const c10::NoGradGuard no_grad;
  for (const auto& module : network.modules()) {
    if (dynamic_cast<BatchNormLayer*>(module.get()) != nullptr) continue;
    const bool inputs_first = dynamic_cast<SparseLinearLayer*>(module.get()) != nullptr;
    for (at::Tensor& parameter : module->parameters(/*recurse=*/false))
      draw_he(parameter, inputs_first, generator);
  }
}

}  // namespace

const std::vector<std::string>& initialisation_names() {
  static const std::vector<std::string> names = {"torch", "he"};
  return names;
}

void validate_initialisation(const std::string& name) {
  const auto& names = initialisation_names();
  TORCH_CHECK_VALUE(std::ranges::find(names, name) != names.end(), "init = ", name,
                    ", must be one of ", c10::Join(", ", names));
}

void initialise(torch::nn::Module& network, const std::string& name, at::Generator& generator) {
  if (name == "he") initialise_he(network, generator);
}

}  // namespace gradist
