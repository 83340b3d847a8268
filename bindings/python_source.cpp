#include "python_source.h"

#include <utility>

namespace gradist::python {

PythonSource::PythonSource(py::object source)
    : source_(std::move(source)),
      examples_(source_.attr("examples").cast<int64_t>()),
      parameters_(source_.attr("parameters").cast<ParameterList>()),
      names_(source_.attr("parameter_names").cast<std::vector<std::string>>()) {}

GradientBatch PythonSource::gradients(const at::Tensor& indices) {
  const py::gil_scoped_acquire gil;
  return source_.attr("gradients")(indices).cast<GradientBatch>();
}

ParameterList PythonSource::weighted_gradient(const at::Tensor& indices,
                                              const at::Tensor& weights) {
  const py::gil_scoped_acquire gil;
  return source_.attr("weighted_gradient")(indices, weights).cast<ParameterList>();
}

}  // namespace gradist::python
