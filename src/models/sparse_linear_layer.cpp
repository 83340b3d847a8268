#include "models/sparse_linear_layer.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>

namespace gradist {
namespace {

/// The nonzero features of each example side by side, filled up with zeros of feature 0: both
/// [B, S], S the most that one example has.
struct Features {
  at::Tensor indices, values;
};

Features features_of(const at::Tensor& input) {
  const at::Tensor starts = input.crow_indices();
  const at::Tensor counts = starts.diff();
  const int64_t examples = input.size(0);
  const auto most = std::max<int64_t>(1, counts.max().item<int64_t>());
  const at::Tensor row = at::arange(examples, counts.options()).repeat_interleave(counts);
  const at::Tensor place = at::arange(row.numel(), counts.options()) -
                           starts.slice(0, 0, examples).repeat_interleave(counts);
  Features features{at::zeros({examples, most}, counts.options()),
                    at::zeros({examples, most}, input.values().options())};
  features.indices.index_put_({row, place}, input.col_indices());
  features.values.index_put_({row, place}, input.values());
  return features;
}

}  // namespace

SparseLinearLayer::SparseLinearLayer(int64_t inputs, int64_t outputs, at::Generator& generator) {
  const double bound = 1 / std::sqrt(static_cast<double>(inputs));
  weight_ = register_parameter(
      "weight", at::empty({inputs, outputs}, at::kFloat).uniform_(-bound, bound, generator));
  bias_ = register_parameter("bias",
                             at::empty({outputs}, at::kFloat).uniform_(-bound, bound, generator));
}

at::Tensor SparseLinearLayer::forward(const at::Tensor& input, Tape* tape) {
  TORCH_CHECK(input.layout() == at::kSparseCsr, "a sparse layer, must be given compressed rows");
  constexpr int64_t kNoPadding = -1;
  const auto [indices, values] = features_of(input);
  const auto rows_of_weight = [&, &tokens = indices] { return at::embedding(weight_, tokens); };
  const at::Tensor rows =
      tape == nullptr
          ? rows_of_weight()
          : tape->record(rules::embedding(indices, weight_, kNoPadding), rows_of_weight);
  const at::Tensor products = (rows * values.unsqueeze(2)).sum(1);
  const auto shifted = [&] { return products + bias_; };
  return tape == nullptr ? shifted() : tape->record(rules::shift(products, bias_, 1), shifted);
}

}  // namespace gradist
