#include "gradients/check.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace gradist {
namespace {

/// g'_i of every parameter, [B, n] float64 each.
std::vector<at::Tensor> by_plain_autograd(GradientSource& source, const at::Tensor& indices) {
  std::vector<std::vector<at::Tensor>> rows(source.parameters().size());
  for (int64_t i = 0; i < indices.numel(); ++i) {
    const auto alone =
        source.weighted_gradient(indices.narrow(0, i, 1), at::ones({1}, at::kDouble));
    for (size_t l = 0; l < rows.size(); ++l) {
      rows[l].push_back(alone[l].flatten().to(at::kDouble));
    }
  }
  std::vector<at::Tensor> gradients;
  for (const auto& row : rows) {
    gradients.push_back(at::stack(row));
  }
  return gradients;
}

double largest(const at::Tensor& values) { return values.abs().max().item<double>(); }

}  // namespace

double GradientCheck::largest() const {
  double largest = 0;
  for (const auto& parameter : parameters) {
    largest = std::max(largest, parameter.error);
  }
  return largest;
}

GradientCheck check_gradients(GradientSource& source, const at::Tensor& indices) {
  const auto found = source.gradients(indices);
  const auto expected = by_plain_autograd(source, indices);
  at::Tensor squared_norms;
  for (const auto& gradients : expected) {
    const auto part = gradients.square().sum(1);
    squared_norms = squared_norms.defined() ? squared_norms + part : part;
  }
  const auto least =
      std::max(1e-6 * std::sqrt(largest(squared_norms)), std::numeric_limits<double>::min());
  GradientCheck check;
  check.examples = indices.numel();
  check.tolerance = source.parameters().front().scalar_type() == at::kDouble ? 1e-10 : 1e-5;
  for (size_t l = 0; l < expected.size(); ++l) {
    const auto& gradients = found.parameters[l];
    const auto norms = expected[l].square().sum(1).sqrt();
    const auto coordinates = gradients.dense().to(at::kDouble).view_as(expected[l]) - expected[l];
    const auto lengths = gradients.squared_norms().to(at::kDouble).sqrt() - norms;
    const auto error =
        std::max(largest(coordinates), largest(lengths)) / std::max(largest(norms), least);
    check.parameters.push_back(
        {source.parameter_names()[l], source.parameters()[l].sizes().vec(), gradients.method(),
         std::isfinite(error) ? error : std::numeric_limits<double>::infinity()});
  }
  return check;
}

}  // namespace gradist
