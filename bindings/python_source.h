#pragma once

#include "bind.h"

#include "gradients/gradient_source.h"

#include <string>
#include <vector>

namespace gradist::python {

/// An nn.Module and its data as estimators and clustering see them. `source` is a Python object
/// with
///
///   examples, parameters, parameter_names     N; live tensors and their names
///   gradients(indices) -> GradientBatch
///   weighted_gradient(indices, weights) -> list of tensors
///
/// whose methods are called under the GIL, from wherever the core needs them. Made and destroyed
/// under the GIL.
class PythonSource final : public GradientSource {
 public:
  explicit PythonSource(py::object source);

  int64_t examples() const override { return examples_; }
  const ParameterList& parameters() const override { return parameters_; }
  const std::vector<std::string>& parameter_names() const override { return names_; }
  GradientBatch gradients(const at::Tensor& indices) override;
  ParameterList weighted_gradient(const at::Tensor& indices, const at::Tensor& weights) override;

 private:
  py::object source_;
  int64_t examples_;
  ParameterList parameters_;
  std::vector<std::string> names_;
};

}  // namespace gradist::python
