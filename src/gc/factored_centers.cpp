#include "gc/factored_centers.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <limits>

namespace gradist {
namespace {

/// Entries of the gradients that are formed at a time: 64 MiB in float32.
constexpr int64_t kMaxFormed = int64_t{1} << 24;

/// Distances worth a thread.
constexpr int64_t kGrain = int64_t{1} << 15;

/// <g_i, C_k> with both sides formed, a tile of examples at a time, [B, K].
at::Tensor inner_formed(const FactoredGradients& gradients, const at::Tensor& centers) {
  const auto columns = centers.flatten(1).t();
  const auto tile = std::max<int64_t>(1, kMaxFormed / columns.size(0));
  std::vector<at::Tensor> products;
  for (int64_t begin = 0; begin < gradients.size(); begin += tile) {
    const auto part = gradients.slice(begin, std::min(begin + tile, gradients.size()));
    products.push_back(at::mm(part.dense().reshape({part.size(), columns.size(0)}), columns));
  }
  return at::cat(products);
}

/// <g_i, C_k>, [B, K]. The terms of higher rank are rank-1 matrices side by side, S K R (I + O), as
/// long as forming the C_k does not cost less, (S + K) I O.
at::Tensor inner(const FactoredGradients& gradients, const FactoredCenters::Factors& centers) {
  const auto clusters = centers.input_side.size(0), rank = centers.input_side.size(1);
  if (rank > 1 && gradients.centers_by_forming(clusters, rank)) {
    return inner_formed(gradients, centers.formed());
  }
  return gradients.inner_rank1(centers.input_side.flatten(0, 1), centers.output_side.flatten(0, 1))
      .view({gradients.size(), clusters, rank})
      .sum(2);
}

/// Part of its terms below which a squared distance is nothing but their rounding.
double rounding_of(const GradientBatch& batch) {
  const bool precise = std::ranges::all_of(batch.parameters, [](const FactoredGradients& g) {
    return g.activations().scalar_type() == at::kDouble;
  });
  return 8 * (precise ? std::numeric_limits<double>::epsilon()
                      : double{std::numeric_limits<float>::epsilon()});
}

/// From -2 <g_i, C_k> to ||g_i - C_k||^2, [B, K]; exactly 0 where that is rounding, so that copies
/// of an example are equally far from centers that are copies of it.
void add_norms(const at::Tensor& distances, const at::Tensor& norms, const at::Tensor& center_norms,
               double rounding) {
  const auto rows = norms.contiguous(), columns = center_norms.contiguous();
  const auto* row_norms = rows.const_data_ptr<double>();
  const auto* column_norms = columns.const_data_ptr<double>();
  const auto width = columns.numel();
  auto* values = distances.data_ptr<double>();
  at::parallel_for(0, rows.numel(), kGrain / width + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t k = 0; k < width; ++k) {
        auto& value = values[i * width + k];
        const auto terms = row_norms[i] + column_norms[k];
        value += terms;
        value = value <= rounding * terms ? 0 : value;
      }
    }
  });
}

}  // namespace

at::Tensor FactoredCenters::Factors::formed() const {
  return at::bmm(output_side.transpose(1, 2), input_side);
}

at::Tensor FactoredCenters::squared_norms() const {
  auto norms = at::zeros({clusters()}, at::kDouble);
  for (const auto& [input_side, output_side] : parameters) {
    const auto terms =
        input_side.to(at::kDouble).square().sum(2) * output_side.to(at::kDouble).square().sum(2);
    norms += terms.sum(1).to(at::kCPU);
  }
  return norms;
}

at::Tensor FactoredCenters::squared_distances(const GradientBatch& batch,
                                              const at::Tensor& center_norms) const {
  auto distances = at::zeros({batch.size(), clusters()}, at::kDouble);
  for (size_t l = 0; l < parameters.size(); ++l) {
    const auto products = inner(batch.parameters[l], parameters[l]);
    distances.sub_(products.to(at::kCPU, at::kDouble), 2);
  }
  add_norms(distances, batch.squared_norms().to(at::kCPU), center_norms, rounding_of(batch));
  return distances;
}

void FactoredCenters::replace(int64_t k, const FactoredCenters& other, int64_t from) {
  for (size_t l = 0; l < parameters.size(); ++l) {
    parameters[l].input_side.select(0, k).copy_(other.parameters[l].input_side.select(0, from));
    parameters[l].output_side.select(0, k).copy_(other.parameters[l].output_side.select(0, from));
  }
  weights.select(0, k).copy_(other.weights.select(0, from));
}

}  // namespace gradist
