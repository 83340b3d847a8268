#include "estimators/difference_sums.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/linspace.h>

#include <algorithm>

namespace gradist::detail {
namespace {

constexpr int64_t kProbeExamples = 256;
constexpr double kSmallDifference = 1e-2;

bool all_equal(const ParameterList& a, const ParameterList& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const at::Tensor& x, const at::Tensor& y) { return at::equal(x, y); });
}

/// Same parameters, same running statistics, same transforms of the examples.
bool is_at(const Snapshot& snapshot, const GradientSource& source) {
  const auto state = source.state();
  return state.key == snapshot.state.key &&
         all_equal(state.statistics, snapshot.state.statistics) &&
         all_equal(source.parameters(), snapshot.parameters);
}

GradientBatch products(const GradientBatch& batch, const GradientBatch& other) {
  GradientBatch result;
  for (size_t l = 0; l < batch.parameters.size(); ++l) {
    result.parameters.push_back(batch.parameters[l].products(other.parameters[l]));
  }
  return result;
}

bool all_few_pairs(const GradientBatch& batch) {
  return std::all_of(batch.parameters.begin(), batch.parameters.end(),
                     [](const FactoredGradients& g) { return g.few_pairs(g); });
}

}  // namespace

DifferenceForm choose_difference_form(GradientSource& source, const Snapshot& snapshot) {
  if (is_at(snapshot, source)) {
    return DifferenceForm::kZero;
  }
  const auto last = source.examples() - 1;
  const auto indices = at::linspace(0, static_cast<double>(last),
                                    std::min(kProbeExamples, source.examples()), at::kDouble)
                           .to(at::kLong);
  const auto batch = source.gradients(indices);
  const AtSnapshot there(source, snapshot);
  const auto at_snapshot = source.gradients(indices);
  const auto size = [](const GradientBatch& g) { return g.squared_norms().sum().item<double>(); };
  const auto difference =
      batch.difference_squared_norms_per_parameter(at_snapshot).sum().item<double>();
  const bool small = difference < kSmallDifference * (size(batch) + size(at_snapshot));
  return small || !all_few_pairs(batch) ? DifferenceForm::kStable : DifferenceForm::kExpanded;
}

DifferenceSums::DifferenceSums(const ParameterList& like, DifferenceForm form, int64_t examples,
                               double weight)
    : form_(form),
      weight_(weight),
      sums_(like, {.visit_weights = {weight},
                   .within_weights = {},
                   .visited = {examples},
                   .per_coordinate_squares = form == DifferenceForm::kStable}) {}

void DifferenceSums::add(const GradientBatch& batch, const GradientBatch& at_snapshot,
                         bool last_chunk) {
  const std::vector<Segment> all{{0, 0, batch.size(), last_chunk}};
  const auto norms = batch.difference_squared_norms_per_parameter(at_snapshot);
  if (form_ == DifferenceForm::kStable) {
    sums_.add(batch.difference(at_snapshot), norms, all);
  } else {
    sums_.add(products(batch, at_snapshot), norms, all);
  }
}

std::vector<double> DifferenceSums::squared_norms() const {
  std::vector<double> norms;
  for (int64_t l = 0; l < sums_.squared_norms().size(0); ++l) {
    norms.push_back(weight_ * sums_.squared_norms()[l].sum().item<double>());
  }
  return norms;
}

ParameterList DifferenceSums::sum(const ParameterList& gradient_sum, const Snapshot& snapshot,
                                  int64_t examples) const {
  if (form_ != DifferenceForm::kExpanded) {
    return sums_.sum();
  }
  ParameterList result;
  for (size_t l = 0; l < gradient_sum.size(); ++l) {
    result.push_back(gradient_sum[l] - snapshot.gradient[l] * static_cast<double>(examples));
  }
  return result;
}

ParameterList DifferenceSums::squares(const ParameterList& gradient_squares,
                                      const Snapshot& snapshot) const {
  if (form_ == DifferenceForm::kStable) {
    return sums_.squares();
  }
  if (form_ == DifferenceForm::kZero) {
    return sums_.sum();
  }
  ParameterList result;
  for (size_t l = 0; l < gradient_squares.size(); ++l) {
    result.push_back(gradient_squares[l] - sums_.sum()[l] * 2 + snapshot.squares[l]);
  }
  return result;
}

}  // namespace gradist::detail
