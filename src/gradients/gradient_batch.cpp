#include "gradients/gradient_batch.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <cmath>

namespace gradist {
namespace {

at::Tensor to_double(const at::Tensor& values) { return values.to(at::kDouble); }

/// Normal entries of variance 1 / side, so that E[P^T P] = 1; undefined where the side is kept as
/// it is.
at::Tensor projection(int64_t wide, int64_t side, const at::TensorOptions& options,
                      at::Generator& generator) {
  if (wide <= side) {
    return {};
  }
  auto entries = at::empty({side, wide}, at::kDouble).normal_(0, 1, generator);
  return entries.div_(std::sqrt(static_cast<double>(side))).to(options);
}

}  // namespace

GradientBatch GradientBatch::slice(int64_t begin, int64_t end) const {
  GradientBatch part;
  for (const auto& parameter : parameters) {
    part.parameters.push_back(parameter.slice(begin, end));
  }
  part.losses = losses.defined() ? losses.slice(0, begin, end) : losses;
  part.outputs = outputs.defined() ? outputs.slice(0, begin, end) : outputs;
  return part;
}

at::Tensor GradientBatch::squared_norms_per_parameter() const {
  std::vector<at::Tensor> norms;
  for (const auto& parameter : parameters) {
    norms.push_back(to_double(parameter.squared_norms()));
  }
  return at::stack(norms);
}

at::Tensor GradientBatch::squared_norms() const { return squared_norms_per_parameter().sum(0); }

at::Tensor GradientBatch::inner(const ParameterList& direction) const {
  auto total = at::zeros({size()}, parameters.front().activations().options().dtype(at::kDouble));
  for (size_t l = 0; l < parameters.size(); ++l) {
    total += to_double(parameters[l].inner(direction[l]));
  }
  return total;
}

at::Tensor GradientBatch::inner(const GradientBatch& other) const {
  auto total = at::zeros({size()}, parameters.front().activations().options().dtype(at::kDouble));
  for (size_t l = 0; l < parameters.size(); ++l) {
    total += to_double(parameters[l].inner(other.parameters[l]));
  }
  return total;
}

at::Tensor GradientBatch::gram(const GradientBatch& other) const {
  auto total = at::zeros({size(), other.size()},
                         parameters.front().activations().options().dtype(at::kDouble));
  for (size_t l = 0; l < parameters.size(); ++l) {
    total += to_double(parameters[l].gram(other.parameters[l]));
  }
  return total;
}

GradientBatch GradientBatch::scaled(const at::Tensor& weights) const {
  GradientBatch result;
  for (const auto& parameter : parameters) {
    result.parameters.push_back(parameter.scaled(weights));
  }
  return result;
}

ParameterList GradientBatch::weighted_sum(const at::Tensor& weights) const {
  ParameterList sums;
  for (const auto& parameter : parameters) {
    sums.push_back(parameter.weighted_sum(weights));
  }
  return sums;
}

at::Tensor GradientBatch::difference_squared_norms_per_parameter(
    const GradientBatch& snapshot) const {
  std::vector<at::Tensor> norms;
  for (size_t l = 0; l < parameters.size(); ++l) {
    norms.push_back(parameters[l].difference_squared_norms(snapshot.parameters[l]));
  }
  return at::stack(norms);
}

GradientBatch GradientBatch::difference(const GradientBatch& snapshot) const {
  GradientBatch result;
  for (size_t l = 0; l < parameters.size(); ++l) {
    result.parameters.push_back(parameters[l].difference(snapshot.parameters[l]));
  }
  return result;
}

int64_t GradientBatch::bytes() const {
  int64_t total = 0;
  for (const auto& parameter : parameters) {
    total += parameter.bytes();
  }
  return total;
}

Sketch::Sketch(const GradientBatch& like, int64_t side, uint64_t seed) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (const auto& parameter : like.parameters) {
    const auto options = parameter.activations().options();
    input_projections_.push_back(projection(parameter.columns(), side, options, generator));
    output_projections_.push_back(projection(parameter.rows(), side, options, generator));
  }
}

at::Tensor Sketch::operator()(const GradientBatch& batch) const {
  std::vector<at::Tensor> parts;
  for (size_t l = 0; l < batch.parameters.size(); ++l) {
    parts.push_back(batch.parameters[l].sketch(input_projections_[l], output_projections_[l]));
  }
  return at::cat(parts, 1);
}

}  // namespace gradist
