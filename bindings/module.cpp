#include "bind.h"

PYBIND11_MODULE(_core, module) {
  module.doc() = "The C++ core of gradist; the package around it is the public API.";
  module.attr("__version__") = GRADIST_VERSION;
  gradist::python::bind_errors();
  gradist::python::bind_run(module);
  gradist::python::bind_gradients(module);
  gradist::python::bind_measurement(module);
  gradist::python::bind_models(module);
  gradist::python::bind_rf(module);
}
