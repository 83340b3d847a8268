#include "support/problems.h"

#include "support/oracles.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include <map>
#include <utility>

namespace gradist::test {
namespace {

constexpr int64_t kExamples = 5;

using Builder = std::function<Problem(at::ScalarType)>;

at::Tensor half_squared_error(const at::Tensor& outputs, const at::Tensor& targets) {
  return (outputs - targets).square().flatten(1).sum(1) / 2;
}

at::Tensor cross_entropy(const at::Tensor& outputs, const at::Tensor& labels) {
  return -outputs.log_softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1);
}

at::Tensor class_labels(int64_t classes) {
  return at::arange(kExamples, at::kLong).remainder(classes);
}

Problem linear_regression(at::ScalarType dtype) {
  const auto losses = [](Tape* tape, const ParameterList& p, const at::Tensor& x,
                         const at::Tensor& y) {
    return half_squared_error(linear(tape, x, p[0], p[1]), y);
  };
  auto source = std::make_unique<TinySource>(
      ParameterList{normal({1, 3}, 1, dtype), normal({1}, 2, dtype)},
      normal({kExamples, 3}, 3, dtype), normal({kExamples, 1}, 4, dtype), losses);
  return {"linear_regression", std::move(source), {"linear", "bias"}};
}

Problem logistic(at::ScalarType dtype) {
  const auto losses = [](Tape* tape, const ParameterList& p, const at::Tensor& x,
                         const at::Tensor& y) {
    return cross_entropy(linear(tape, x, p[0], p[1]), y);
  };
  auto source =
      std::make_unique<TinySource>(ParameterList{normal({3, 2}, 5, dtype), normal({3}, 6, dtype)},
                                   normal({kExamples, 2}, 7, dtype), class_labels(3), losses);
  return {"logistic", std::move(source), {"linear", "bias"}};
}

/// The rectifier works in place on the first layer's output, and the second layer has no bias.
Problem mlp(at::ScalarType dtype) {
  const auto losses = [](Tape* tape, const ParameterList& p, const at::Tensor& x,
                         const at::Tensor& y) {
    at::Tensor hidden = linear(tape, x, p[0], p[1]);
    hidden.relu_();
    return cross_entropy(linear(tape, hidden, p[2], {}), y);
  };
  auto source = std::make_unique<TinySource>(
      ParameterList{normal({4, 2}, 8, dtype), normal({4}, 9, dtype), normal({2, 4}, 10, dtype)},
      normal({kExamples, 2}, 11, dtype), class_labels(2), losses);
  return {"mlp", std::move(source), {"linear", "bias", "linear"}};
}

/// Inputs [B, 3 positions, 2], as for tokens; two layers, so that the second one's input needs a
/// gradient.
Problem sequence(at::ScalarType dtype) {
  const auto losses = [](Tape* tape, const ParameterList& p, const at::Tensor& x,
                         const at::Tensor& y) {
    return half_squared_error(linear(tape, linear(tape, x, p[0], p[1]).tanh(), p[2], {}).tanh(), y);
  };
  auto source = std::make_unique<TinySource>(
      ParameterList{normal({3, 2}, 12, dtype), normal({3}, 13, dtype), normal({2, 3}, 14, dtype)},
      normal({kExamples, 3, 2}, 15, dtype), normal({kExamples, 3, 2}, 16, dtype), losses);
  return {"sequence", std::move(source), {"linear", "bias", "linear"}};
}

Problem tied(at::ScalarType dtype) {
  const auto losses = [](Tape* tape, const ParameterList& p, const at::Tensor& x,
                         const at::Tensor& y) {
    return half_squared_error(linear(tape, linear(tape, x, p[0], p[1]).tanh(), p[0], p[1]), y);
  };
  auto source = std::make_unique<TinySource>(
      ParameterList{normal({2, 2}, 17, dtype), normal({2}, 18, dtype)},
      normal({kExamples, 2}, 19, dtype), normal({kExamples, 2}, 20, dtype), losses);
  return {"tied", std::move(source), {"linear", "bias"}};
}

/// The scale is used outside the table of rules, before a layer that is inside it.
Problem uncovered(at::ScalarType dtype) {
  const auto losses = [](Tape* tape, const ParameterList& p, const at::Tensor& x,
                         const at::Tensor& y) {
    return half_squared_error(linear(tape, (linear(tape, x, p[0], {}) * p[1]).tanh(), p[2], {}), y);
  };
  auto source = std::make_unique<TinySource>(
      ParameterList{normal({2, 2}, 21, dtype), normal({2}, 22, dtype), normal({1, 2}, 23, dtype)},
      normal({kExamples, 2}, 24, dtype), normal({kExamples, 1}, 25, dtype), losses);
  return {"uncovered", std::move(source), {"linear", "one-by-one", "linear"}};
}

/// One weight inside the table and outside it at once: neither use may be lost.
Problem partly_covered(at::ScalarType dtype) {
  const auto losses = [](Tape* tape, const ParameterList& p, const at::Tensor& x,
                         const at::Tensor& y) {
    return half_squared_error(linear(tape, x, p[0], {}).tanh().matmul(p[0]), y);
  };
  auto source = std::make_unique<TinySource>(ParameterList{normal({2, 2}, 26, dtype)},
                                             normal({kExamples, 2}, 27, dtype),
                                             normal({kExamples, 2}, 28, dtype), losses);
  return {"partly_covered", std::move(source), {"one-by-one"}};
}

Problem unused(at::ScalarType dtype) {
  const auto losses = [](Tape* tape, const ParameterList& p, const at::Tensor& x,
                         const at::Tensor& y) {
    return half_squared_error(linear(tape, x, p[1], {}), y);
  };
  auto source = std::make_unique<TinySource>(
      ParameterList{normal({2, 3}, 29, dtype), normal({2, 2}, 30, dtype)},
      normal({kExamples, 2}, 31, dtype), normal({kExamples, 2}, 32, dtype), losses);
  return {"unused", std::move(source), {"unused", "linear"}};
}

at::Tensor convolution(Tape* tape, const at::Tensor& x, const at::Tensor& weight,
                       const at::Tensor& bias) {
  const auto plain = [&] { return at::conv2d(x, weight, bias); };
  const rules::Convolution geometry{
      .stride = {1, 1}, .padding = {0, 0}, .dilation = {1, 1}, .output_padding = {0, 0}};
  return tape == nullptr ? plain()
                         : tape->record(rules::convolution(x, weight, bias, geometry), plain);
}

/// The first layer's gradients are formed, since they are fewer numbers than their factors at four
/// positions; the second layer's, at one position, stay in factors.
Problem convolutions(at::ScalarType dtype) {
  const auto losses = [](Tape* tape, const ParameterList& p, const at::Tensor& x,
                         const at::Tensor& y) {
    const at::Tensor hidden = convolution(tape, x, p[0], p[1]).tanh();
    return half_squared_error(convolution(tape, hidden, p[2], {}), y);
  };
  auto source = std::make_unique<TinySource>(
      ParameterList{normal({2, 1, 2, 1}, 33, dtype), normal({2}, 34, dtype),
                    normal({2, 2, 2, 2}, 35, dtype)},
      normal({kExamples, 1, 3, 2}, 36, dtype), normal({kExamples, 2, 1, 1}, 37, dtype), losses);
  return {"convolutions", std::move(source), {"conv", "bias", "conv"}};
}

/// Between two layers, so that its input needs a gradient too.
Problem normalised(at::ScalarType dtype) {
  const auto losses = [](Tape* tape, const ParameterList& p, const at::Tensor& x,
                         const at::Tensor& y) {
    const at::Tensor hidden = linear(tape, x, p[0], {});
    const auto plain = [&] { return at::layer_norm(hidden, {3}, p[1], p[2], 1e-5); };
    const at::Tensor normal =
        tape == nullptr ? plain()
                        : tape->record(rules::layer_norm(hidden, {3}, p[1], p[2], 1e-5), plain);
    return half_squared_error(linear(tape, normal.tanh(), p[3], {}), y);
  };
  auto source = std::make_unique<TinySource>(
      ParameterList{normal({3, 2}, 38, dtype), normal({3}, 39, dtype), normal({3}, 40, dtype),
                    normal({1, 3}, 41, dtype)},
      normal({kExamples, 2}, 42, dtype), normal({kExamples, 1}, 43, dtype), losses);
  return {"normalised", std::move(source), {"linear", "layer_norm", "bias", "linear"}};
}

const std::vector<std::pair<std::string, Builder>>& builders() {
  static const std::vector<std::pair<std::string, Builder>> table{
      {"linear_regression", linear_regression},
      {"logistic", logistic},
      {"mlp", mlp},
      {"sequence", sequence},
      {"tied", tied},
      {"uncovered", uncovered},
      {"partly_covered", partly_covered},
      {"unused", unused},
      {"convolutions", convolutions},
      {"normalised", normalised},
  };
  return table;
}

}  // namespace

at::Generator generator_of(uint64_t seed) { return at::detail::createCPUGenerator(seed); }

at::Tensor normal(std::vector<int64_t> sizes, uint64_t seed, at::ScalarType dtype) {
  return at::randn(sizes, generator_of(seed), at::dtype(at::kDouble)).to(dtype);
}

std::vector<at::Tensor> TestSource::oracle_per_parameter() const {
  std::vector<int64_t> widths;
  for (const at::Tensor& parameter : parameters_) widths.push_back(parameter.numel());
  return oracle().split_with_sizes(widths, 1);
}

void TestSource::move(double distance, uint64_t seed) {
  const c10::NoGradGuard no_grad;
  for (const at::Tensor& parameter : parameters_) {
    parameter.add_(normal(parameter.sizes().vec(), seed++, parameter.scalar_type()), distance);
  }
}

TinySource::TinySource(const ParameterList& parameters, at::Tensor inputs, at::Tensor targets,
                       Losses losses)
    : inputs_(std::move(inputs)), targets_(std::move(targets)), losses_(std::move(losses)) {
  for (const at::Tensor& parameter : parameters) {
    names_.push_back("parameter" + std::to_string(names_.size()));
    parameters_.push_back(parameter.detach().clone().requires_grad_());
  }
}

GradientBatch TinySource::gradients(const at::Tensor& indices) {
  const at::AutoGradMode grad(true);
  Tape tape;
  const at::Tensor losses = losses_(&tape, parameters_, inputs_.index_select(0, indices),
                                    targets_.index_select(0, indices));
  const at::Tensor chosen = indices.contiguous();
  const auto loss_of_example = [&](int64_t b) {
    return loss_of(chosen.const_data_ptr<int64_t>()[b]);
  };
  return tape.backward(losses, parameters_, loss_of_example);
}

ParameterList TinySource::weighted_gradient(const at::Tensor& indices, const at::Tensor& weights) {
  const at::AutoGradMode grad(true);
  const at::Tensor losses = losses_(nullptr, parameters_, inputs_.index_select(0, indices),
                                    targets_.index_select(0, indices));
  ParameterList gradient =
      torch::autograd::grad({(losses * weights.to(losses.scalar_type())).sum()}, parameters_, {},
                            /*retain_graph=*/false, /*create_graph=*/false, /*allow_unused=*/true);
  for (size_t l = 0; l < gradient.size(); ++l) {
    if (!gradient[l].defined()) gradient[l] = at::zeros_like(parameters_[l]);
  }
  return gradient;
}

at::Tensor TinySource::oracle() const {
  const at::AutoGradMode grad(true);
  return dense_one_by_one([this](int64_t i) { return loss_of(i); }, examples(), parameters_);
}

at::Tensor TinySource::loss_of(int64_t example) const {
  return losses_(nullptr, parameters_, inputs_.slice(0, example, example + 1),
                 targets_.slice(0, example, example + 1))
      .squeeze(0);
}

VectorSource::VectorSource(at::Tensor rows, at::Tensor curvatures)
    : rows_(std::move(rows)),
      curvatures_(curvatures.defined() ? std::move(curvatures) : at::zeros_like(rows_)) {
  const int64_t first = (rows_.size(1) + 1) / 2;
  for (const int64_t width : {first, rows_.size(1) - first}) {
    if (width == 0) continue;
    names_.push_back("piece" + std::to_string(names_.size()));
    parameters_.push_back(at::zeros({width}, rows_.options()).requires_grad_());
  }
}

GradientBatch VectorSource::gradients(const at::Tensor& indices) {
  const at::Tensor rows = rows_of(indices);
  GradientBatch batch;
  int64_t begin = 0;
  for (const at::Tensor& parameter : parameters_) {
    const int64_t end = begin + parameter.numel();
    batch.parameters.push_back(
        FactoredGradients::from_dense(rows.slice(1, begin, end), parameter.sizes().vec(), "given"));
    begin = end;
  }
  const at::Tensor theta = flatten(parameters_).to(rows_.scalar_type());
  batch.losses = (rows - curvatures_.index_select(0, indices) * theta / 2).matmul(theta);
  return batch;
}

ParameterList VectorSource::weighted_gradient(const at::Tensor& indices,
                                              const at::Tensor& weights) {
  const at::Tensor sum = weights.to(rows_.scalar_type()).matmul(rows_of(indices));
  ParameterList gradient;
  int64_t begin = 0;
  for (const at::Tensor& parameter : parameters_) {
    gradient.push_back(sum.slice(0, begin, begin + parameter.numel()));
    begin += parameter.numel();
  }
  return gradient;
}

at::Tensor VectorSource::oracle() const {
  return rows_.to(at::kDouble) + curvatures_.to(at::kDouble) * flatten(parameters_);
}

at::Tensor VectorSource::rows_of(const at::Tensor& indices) const {
  const at::Tensor theta = flatten(parameters_).to(rows_.scalar_type());
  return rows_.index_select(0, indices) + curvatures_.index_select(0, indices) * theta;
}

std::vector<std::string> problem_names() {
  std::vector<std::string> names;
  for (const auto& [name, builder] : builders()) names.push_back(name);
  return names;
}

Problem make_problem(const std::string& name, at::ScalarType dtype) {
  for (const auto& [known, builder] : builders()) {
    if (known == name) return builder(dtype);
  }
  TORCH_CHECK_VALUE(false, "no tiny problem is called ", name);
}

}  // namespace gradist::test
