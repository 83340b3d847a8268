#include "gradients/gradient_source.h"

#include <ATen/core/grad_mode.h>

namespace gradist {

int64_t GradientSource::parameter_count() const {
  int64_t count = 0;
  for (const auto& parameter : parameters()) {
    count += parameter.numel();
  }
  return count;
}

ParameterSwap::ParameterSwap(const GradientSource& source, const ParameterList& values)
    : parameters_(source.parameters()) {
  TORCH_INTERNAL_ASSERT(values.size() == parameters_.size());
  for (size_t l = 0; l < parameters_.size(); ++l) {
    TORCH_INTERNAL_ASSERT(values[l].sizes() == parameters_[l].sizes());
    saved_.push_back(parameters_[l].variable_data());
    parameters_[l].set_data(values[l]);
  }
}

ParameterSwap::~ParameterSwap() {
  for (size_t l = 0; l < parameters_.size(); ++l) {
    parameters_[l].set_data(saved_[l]);
  }
}

ParameterList copy_parameters(const GradientSource& source) {
  ParameterList copies;
  for (const auto& parameter : source.parameters()) {
    copies.push_back(parameter.detach().clone());
  }
  return copies;
}

}  // namespace gradist
