#include "bind.h"

#include "data/dataset.h"
#include "models/network.h"

#include <ATen/CPUGeneratorImpl.h>

#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace gradist::python {
namespace {

std::shared_ptr<Network> network(const std::vector<int64_t>& example, int64_t outputs,
                                 uint64_t seed, const ModelOptions& options) {
  at::Generator generator = at::detail::createCPUGenerator(seed);
  return make_network(options, example, outputs, generator);
}

std::vector<std::pair<std::string, at::Tensor>> named(
    const torch::OrderedDict<std::string, at::Tensor>& tensors) {
  std::vector<std::pair<std::string, at::Tensor>> list;
  for (const auto& each : tensors) list.emplace_back(each.key(), each.value());
  return list;
}

/// Inputs and targets of the training set, then of the test set.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> load(
    const std::string& data, const std::string& data_dir, bool standardize,
    const std::string& targets, const std::string& target_column,
    const std::vector<std::string>& hdf5_train, const std::vector<std::string>& hdf5_test) {
  const py::gil_scoped_release no_gil;
  DataOptions options{.data = data, .data_dir = data_dir, .standardize = standardize};
  options.targets = targets;
  options.target_column = target_column;
  options.hdf5_train = hdf5_train;
  options.hdf5_test = hdf5_test;
  const DataSplit split = load_data(options);
  return {split.train.inputs, split.train.targets, split.test.inputs, split.test.targets};
}

}  // namespace

void bind_models(py::module_& module) {
  const ModelOptions defaults;
  py::class_<Network, std::shared_ptr<Network>>(module, "Network")
      .def(py::init([](const std::vector<int64_t>& example, int64_t outputs, uint64_t seed,
                       const std::string& model, const std::vector<int64_t>& hidden, double width,
                       const std::string& activation, const std::string& norm,
                       const std::string& init) {
             return network(example, outputs, seed,
                            {.model = model,
                             .hidden = hidden,
                             .width = width,
                             .activation = activation,
                             .norm = norm,
                             .init = init});
           }),
           py::kw_only(), py::arg("example"), py::arg("outputs"), py::arg("seed") = 0,
           py::arg("model") = defaults.model, py::arg("hidden") = defaults.hidden,
           py::arg("width") = defaults.width, py::arg("activation") = defaults.activation,
           py::arg("norm") = defaults.norm, py::arg("init") = defaults.init)
      .def("__call__",
           [](Network& self, const at::Tensor& inputs) {
             const py::gil_scoped_release no_gil;
             return self.forward(inputs);
           })
      .def("named_parameters", [](const Network& self) { return named(self.named_parameters()); })
      .def("named_buffers", [](const Network& self) { return named(self.named_buffers()); })
      .def("train", [](Network& self) { self.train(); })
      .def("eval", [](Network& self) { self.eval(); })
      .def("double", [](Network& self) { self.to(at::kDouble); })
      .def("describe", &Network::describe);
  module.def("model_names", &model_names);
  const DataOptions data;
  module.def("load_data", &load, py::kw_only(), py::arg("data"), py::arg("data_dir") = "",
             py::arg("standardize") = true, py::arg("targets") = data.targets,
             py::arg("target_column") = data.target_column, py::arg("hdf5_train") = data.hdf5_train,
             py::arg("hdf5_test") = data.hdf5_test);
}

}  // namespace gradist::python
