#pragma once

#include <torch/csrc/utils/pybind.h>

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace gradist::python {

/// What each file of the bindings adds to the module.
void bind_errors();
void bind_run(py::module_& module);
void bind_gradients(py::module_& module);
void bind_measurement(py::module_& module);
void bind_models(py::module_& module);
void bind_rf(py::module_& module);

}  // namespace gradist::python
