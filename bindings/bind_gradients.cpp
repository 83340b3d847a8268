#include "bind.h"

#include "gradients/amx.h"
#include "gradients/tape.h"
#include "gradients/without_autocast.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

namespace gradist::python {
namespace {

using OptionalTensor = std::optional<at::Tensor>;
using NoGil = py::gil_scoped_release;

at::Tensor or_undefined(const OptionalTensor& tensor) { return tensor.value_or(at::Tensor()); }

/// Records a layer; an undefined tensor, None in Python, where it is not recorded and the caller
/// runs it.
at::Tensor record(Tape& tape, rules::Use use, bool sequence_first = false) {
  return tape.record(
      std::move(use), [] { return at::Tensor(); }, sequence_first);
}

/// One example's loss as Python computes it; called where the GIL may be anybody's.
Tape::LossOfExample loss_of_example(const std::optional<py::function>& function) {
  if (!function) {
    return nullptr;
  }
  return [&function](int64_t example) {
    const py::gil_scoped_acquire gil;
    return (*function)(example).cast<at::Tensor>();
  };
}

GradientBatch backward(Tape& tape, const at::Tensor& losses, const ParameterList& parameters,
                       const std::optional<py::function>& function) {
  // Autograd may run Python code of the model's own and takes the GIL for it.
  const NoGil no_gil;
  return tape.backward(losses, parameters, loss_of_example(function));
}

ReducedGradients backward_reduced(Tape& tape, const at::Tensor& losses,
                                  const ParameterList& parameters,
                                  const std::optional<py::function>& function) {
  const NoGil no_gil;
  return tape.backward_reduced(losses, parameters, loss_of_example(function));
}

/// What the tape knows of each parameter as one batch; `formed` are gradients [B, *shape] of the
/// parameters at the positions `places`, found in another way.
GradientBatch batch(const Tape& tape, const ParameterList& parameters, int64_t examples,
                    const std::vector<size_t>& places, const ParameterList& formed) {
  const NoGil no_gil;
  GradientBatch result;
  const auto recorded = tape.factors(parameters);
  for (size_t l = 0; l < parameters.size(); ++l) {
    result.parameters.push_back(recorded[l] ? *recorded[l]
                                            : FactoredGradients::unused(parameters[l], examples));
  }
  for (size_t p = 0; p < places.size(); ++p) {
    result.parameters.at(places[p]) =
        FactoredGradients::from_dense(formed[p], parameters[places[p]].sizes().vec(), "one-by-one");
  }
  return result;
}

/// ||g_i||^2, [B] float64; none if one is missing, or they are not all on one device.
OptionalTensor squared_norms(const std::vector<const NormsAndSum*>& found) {
  ReducedGradients all;
  for (const auto* each : found) {
    if (each == nullptr || each->squared_norms.device() != found[0]->squared_norms.device()) {
      return std::nullopt;
    }
    all.parameters.push_back(*each);
  }
  return found.empty() ? std::nullopt : OptionalTensor(all.squared_norms());
}

/// Adds the sums that were found to the parameters' `.grad`, as a backward pass does: to those at
/// the positions `sparse` as rows.
void add_to_grad(const ParameterList& parameters, const std::vector<const NormsAndSum*>& found,
                 const std::vector<size_t>& sparse) {
  const c10::NoGradGuard no_grad;
  for (size_t l = 0; l < parameters.size(); ++l) {
    if (found.at(l) == nullptr) {
      continue;
    }
    auto sum = found[l]->sum.to(parameters[l].scalar_type());
    if (std::find(sparse.begin(), sparse.end(), l) != sparse.end()) {
      sum = sum.to_sparse(/*sparse_dim=*/1);
    }
    auto& grad = parameters[l].mutable_grad();
    if (grad.defined()) {
      grad.add_(sum);
    } else {
      grad = sum;
    }
  }
}

/// The gradient that backward passes bring to a tensor of their graph, summed.
class GradientOf {
 public:
  explicit GradientOf(const at::Tensor& tensor) {
    tensor.register_hook([sum = sum_](const at::Tensor& gradient) {
      *sum = sum->defined() ? *sum + gradient : gradient;
    });
  }
  OptionalTensor sum() const { return sum_->defined() ? OptionalTensor(*sum_) : std::nullopt; }

 private:
  std::shared_ptr<at::Tensor> sum_ = std::make_shared<at::Tensor>();
};

std::vector<std::string> methods(const GradientBatch& gradients) {
  std::vector<std::string> names;
  for (const auto& parameter : gradients.parameters) {
    names.push_back(parameter.method());
  }
  return names;
}

/// A layer of the user's own: its rule is a Python function, called under the GIL and destroyed
/// under it.
at::Tensor custom(Tape& tape, const at::Tensor& output, const ParameterList& parameters,
                  py::function gradients) {
  const std::shared_ptr<py::function> function(new py::function(std::move(gradients)),
                                               [](py::function* held) {
                                                 const py::gil_scoped_acquire gil;
                                                 delete held;
                                               });
  const NoGil no_gil;
  return record(tape, rules::custom(output, parameters, [function](const at::Tensor& backprops) {
                  const py::gil_scoped_acquire gil;
                  return (*function)(backprops).cast<std::vector<at::Tensor>>();
                }));
}

void bind_batch(py::module_& module) {
  const auto no_gil = py::call_guard<NoGil, WithoutAutocast>();
  py::class_<GradientBatch>(module, "GradientBatch")
      .def("__len__", &GradientBatch::size)
      .def_readonly("losses", &GradientBatch::losses)
      .def_property_readonly("methods", &methods)
      .def_property_readonly("bytes", &GradientBatch::bytes)
      .def("squared_norms", &GradientBatch::squared_norms, no_gil)
      .def("squared_norms_per_parameter", &GradientBatch::squared_norms_per_parameter, no_gil)
      .def("inner_direction",
           py::overload_cast<const ParameterList&>(&GradientBatch::inner, py::const_), no_gil,
           py::arg("direction"))
      .def("inner", py::overload_cast<const GradientBatch&>(&GradientBatch::inner, py::const_),
           no_gil, py::arg("other"))
      .def("gram", &GradientBatch::gram, no_gil, py::arg("other"))
      .def(
          "sum_squares",
          [](const GradientBatch& gradients, size_t parameter) {
            return gradients.parameters.at(parameter).sum_squares();
          },
          no_gil, py::arg("parameter"))
      .def(
          "sketch",
          [](const GradientBatch& gradients, int64_t side, uint64_t seed) {
            return Sketch(gradients, side, seed)(gradients);
          },
          no_gil, py::arg("side"), py::arg("seed"))
      .def(
          "dense",
          [](const GradientBatch& gradients, size_t parameter) {
            return gradients.parameters.at(parameter).dense();
          },
          no_gil, py::arg("parameter"));

  py::class_<NormsAndSum>(module, "NormsAndSum")
      .def(py::init<at::Tensor, at::Tensor, std::string, std::string>(), py::arg("squared_norms"),
           py::arg("sum"), py::arg("method"), py::arg("reason"))
      .def_readonly("squared_norms", &NormsAndSum::squared_norms)
      .def_readonly("sum", &NormsAndSum::sum)
      .def_readonly("method", &NormsAndSum::method)
      .def_readonly("reason", &NormsAndSum::reason);
  module.def("squared_norms", &squared_norms, py::call_guard<NoGil>(), py::arg("found"));
  module.def("add_to_grad", &add_to_grad, py::call_guard<NoGil>(), py::arg("parameters"),
             py::arg("found"), py::arg("sparse"));
  py::class_<GradientOf>(module, "GradientOf")
      .def(py::init<const at::Tensor&>(), py::arg("tensor"))
      .def_property_readonly("sum", &GradientOf::sum);

  py::class_<ReducedGradients>(module, "ReducedGradients")
      .def_readonly("losses", &ReducedGradients::losses)
      .def_readonly("parameters", &ReducedGradients::parameters)
      .def("squared_norms", &ReducedGradients::squared_norms, no_gil)
      .def("append", &ReducedGradients::append, no_gil, py::arg("part"));
}

void bind_choices(py::module_& module) {
  py::class_<MethodChoices, std::shared_ptr<MethodChoices>>(
      module, "MethodChoices",
      "Which way each layer and shape is computed: from a file, tried once, or by the count of "
      "operations.")
      .def(py::init<bool>(), py::arg("measure") = false)
      .def("way", &MethodChoices::way, py::arg("what"))
      .def("keep", &MethodChoices::keep, py::arg("what"), py::arg("way"), py::arg("reason"))
      .def("read", &MethodChoices::read, py::arg("path"))
      .def("write", &MethodChoices::write, py::arg("path"))
      .def_property_readonly("choices", [](const MethodChoices& choices) {
        std::map<std::string, std::pair<std::string, std::string>> table;
        for (const auto& [layer, choice] : choices.choices()) {
          table[layer] = {choice.way, choice.reason};
        }
        return table;
      });
}

/// The layer rules; each returns None where the layer is not recorded.
void bind_rules(py::class_<Tape>& tape) {
  const auto no_gil = py::call_guard<NoGil>();
  tape.def(
          "linear",
          [](Tape& self, const at::Tensor& input, const at::Tensor& weight,
             const OptionalTensor& bias, bool sequence_first) {
            return record(self,
                          rules::linear(input, weight, or_undefined(bias), self.linear_products()),
                          sequence_first);
          },
          no_gil, py::arg("input"), py::arg("weight"), py::arg("bias") = py::none(),
          py::arg("sequence_first") = false)
      .def(
          "matmul",
          [](Tape& self, const at::Tensor& input, const at::Tensor& weight) {
            return record(self, rules::matmul(input, weight, self.linear_products()));
          },
          no_gil, py::arg("input"), py::arg("weight"))
      .def(
          "convolution",
          [](Tape& self, const at::Tensor& input, const at::Tensor& weight,
             const OptionalTensor& bias, std::vector<int64_t> stride, std::vector<int64_t> padding,
             std::vector<int64_t> dilation, bool transposed, std::vector<int64_t> output_padding,
             int64_t groups) {
            return record(self, rules::convolution(
                                    input, weight, or_undefined(bias),
                                    {std::move(stride), std::move(padding), std::move(dilation),
                                     transposed, std::move(output_padding), groups}));
          },
          no_gil, py::arg("input"), py::arg("weight"), py::arg("bias"), py::arg("stride"),
          py::arg("padding"), py::arg("dilation"), py::arg("transposed"), py::arg("output_padding"),
          py::arg("groups"))
      .def(
          "embedding",
          [](Tape& self, const at::Tensor& tokens, const at::Tensor& weight, int64_t padding_index,
             bool sequence_first) {
            return record(self, rules::embedding(tokens, weight, padding_index), sequence_first);
          },
          no_gil, py::arg("tokens"), py::arg("weight"), py::arg("padding_index") = -1,
          py::arg("sequence_first") = false)
      .def(
          "layer_norm",
          [](Tape& self, const at::Tensor& input, std::vector<int64_t> shape,
             const OptionalTensor& weight, const OptionalTensor& bias, double epsilon,
             bool sequence_first) {
            return record(self,
                          rules::layer_norm(input, std::move(shape), or_undefined(weight),
                                            or_undefined(bias), epsilon),
                          sequence_first);
          },
          no_gil, py::arg("input"), py::arg("shape"), py::arg("weight"), py::arg("bias"),
          py::arg("epsilon"), py::arg("sequence_first") = false)
      .def(
          "rms_norm",
          [](Tape& self, const at::Tensor& input, std::vector<int64_t> shape,
             const OptionalTensor& weight, double epsilon, bool sequence_first) {
            return record(self,
                          rules::rms_norm(input, std::move(shape), or_undefined(weight), epsilon),
                          sequence_first);
          },
          no_gil, py::arg("input"), py::arg("shape"), py::arg("weight"), py::arg("epsilon"),
          py::arg("sequence_first") = false)
      .def(
          "group_norm",
          [](Tape& self, const at::Tensor& input, int64_t groups, const OptionalTensor& weight,
             const OptionalTensor& bias, double epsilon) {
            return record(self, rules::group_norm(input, groups, or_undefined(weight),
                                                  or_undefined(bias), epsilon));
          },
          no_gil, py::arg("input"), py::arg("groups"), py::arg("weight"), py::arg("bias"),
          py::arg("epsilon"))
      .def(
          "batch_norm",
          [](Tape& self, const at::Tensor& input, const at::Tensor& mean,
             const at::Tensor& variance, const OptionalTensor& weight, const OptionalTensor& bias,
             double epsilon) {
            return record(self, rules::batch_norm(input, mean, variance, or_undefined(weight),
                                                  or_undefined(bias), epsilon));
          },
          no_gil, py::arg("input"), py::arg("mean"), py::arg("variance"), py::arg("weight"),
          py::arg("bias"), py::arg("epsilon"))
      .def(
          "scale",
          [](Tape& self, const at::Tensor& input, const at::Tensor& weight) {
            return record(self, rules::scale(input, weight));
          },
          no_gil, py::arg("input"), py::arg("weight"))
      .def(
          "shift",
          [](Tape& self, const at::Tensor& input, const at::Tensor& bias, double factor) {
            return record(self, rules::shift(input, bias, factor));
          },
          no_gil, py::arg("input"), py::arg("bias"), py::arg("factor") = 1.0)
      .def(
          "expand",
          [](Tape& self, const at::Tensor& parameter, std::vector<int64_t> sizes) {
            return record(self, rules::expand(parameter, std::move(sizes)));
          },
          no_gil, py::arg("parameter"), py::arg("sizes"))
      .def("custom", &custom, py::arg("output"), py::arg("parameters"), py::arg("gradients"));
}

}  // namespace

void bind_gradients(py::module_& module) {
  module.def("has_amx", &detail::has_amx);
  bind_batch(module);
  bind_choices(module);
  py::class_<Tape> tape(module, "Tape");
  tape.def(py::init([](int64_t examples, bool reduce, bool keep_factors,
                       std::shared_ptr<MethodChoices> choices, bool plain_outputs,
                       bool plain_backprops) {
             return std::make_unique<Tape>(Tape::Options{examples, reduce, keep_factors,
                                                         std::move(choices), plain_outputs,
                                                         plain_backprops});
           }),
           py::kw_only(), py::arg("examples") = 0, py::arg("reduce") = false,
           py::arg("keep_factors") = true, py::arg("choices") = nullptr,
           py::arg("plain_outputs") = true, py::arg("plain_backprops") = true)
      .def("backward", &backward, py::arg("losses"), py::arg("parameters"),
           py::arg("loss_of_example") = py::none())
      .def("backward_reduced", &backward_reduced, py::arg("losses"), py::arg("parameters"),
           py::arg("loss_of_example") = py::none())
      .def("norms_and_sums", &Tape::norms_and_sums, py::call_guard<NoGil>(), py::arg("parameters"))
      .def("batch", &batch, py::arg("parameters"), py::arg("examples"), py::arg("places"),
           py::arg("formed"))
      .def_property_readonly("examples", &Tape::examples)
      .def("differentiated_twice", &Tape::differentiated_twice, py::arg("parameters"))
      .def_property_readonly("twice", &Tape::twice)
      .def_property_readonly("complete", &Tape::complete)
      .def("follow", &Tape::follow, py::arg("examples"))
      .def("settle", &Tape::settle, py::call_guard<NoGil>(), py::arg("parameters"),
           py::arg("inputs"))
      .def("close", &Tape::close);
  bind_rules(tape);
}

}  // namespace gradist::python
