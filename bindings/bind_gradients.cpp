#include "bind.h"

#include "gradients/tape.h"

#include <optional>

namespace gradist::python {
namespace {

/// One example's loss as Python computes it; called where the GIL may be anybody's.
Tape::LossOfExample loss_of_example(const py::function& function) {
  return [&function](int64_t example) {
    const py::gil_scoped_acquire gil;
    return function(example).cast<at::Tensor>();
  };
}

GradientBatch backward(Tape& tape, const at::Tensor& losses, const ParameterList& parameters,
                       const std::optional<py::function>& function) {
  // Autograd may run Python code of the model's own and takes the GIL for it.
  const py::gil_scoped_release no_gil;
  return tape.backward(losses, parameters, function ? loss_of_example(*function) : nullptr);
}

std::vector<std::string> methods(const GradientBatch& batch) {
  std::vector<std::string> names;
  for (const auto& parameter : batch.parameters) {
    names.push_back(parameter.method());
  }
  return names;
}

}  // namespace

void bind_gradients(py::module_& module) {
  const auto no_gil = py::call_guard<py::gil_scoped_release>();

  py::class_<GradientBatch>(module, "GradientBatch")
      .def("__len__", &GradientBatch::size)
      .def_readonly("losses", &GradientBatch::losses)
      .def_property_readonly("methods", &methods)
      .def("squared_norms", &GradientBatch::squared_norms, no_gil)
      .def("squared_norms_per_parameter", &GradientBatch::squared_norms_per_parameter, no_gil)
      .def("dense", [](const GradientBatch& batch, size_t parameter) {
        return batch.parameters.at(parameter).dense();
      });

  py::class_<Tape>(module, "Tape")
      .def(py::init<>())
      .def(
          "linear",
          [](Tape& tape, const at::Tensor& input, const at::Tensor& weight,
             const std::optional<at::Tensor>& bias) {
            return tape.linear(input, weight, bias.value_or(at::Tensor()));
          },
          py::arg("input"), py::arg("weight"), py::arg("bias") = py::none())
      .def("backward", &backward, py::arg("losses"), py::arg("parameters"),
           py::arg("loss_of_example") = py::none());
}

}  // namespace gradist::python
