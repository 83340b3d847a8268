#include "gradients/factored_gradients.h"

#include "gradients/row_products.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>

namespace gradist {
namespace {

/// Floats that one tile of formed gradients may take (2^22, 16 MiB in float32: about a last-level
/// cache).
constexpr int64_t kTileElements = int64_t{1} << 22;

/// Beyond this many pairs of positions, forming g_i is cheaper than one product per pair.
constexpr int64_t kMaxPairedPositions = 4;

/// [B, S, n] -> [n, B S] x [B S, m] products as one matrix product: sum over examples and
/// positions.
at::Tensor product_over_examples(const at::Tensor& backprops, const at::Tensor& activations) {
  return at::mm(backprops.flatten(0, 1).t(), activations.flatten(0, 1));
}

}  // namespace

FactoredGradients::FactoredGradients(at::Tensor activations, at::Tensor backprops,
                                     std::vector<int64_t> shape, std::string method)
    : activations_(std::move(activations)),
      backprops_(std::move(backprops)),
      shape_(std::move(shape)),
      method_(std::move(method)) {
  TORCH_INTERNAL_ASSERT(activations_.dim() == 3 && backprops_.dim() == 3);
  TORCH_INTERNAL_ASSERT(activations_.size(0) == backprops_.size(0) &&
                        activations_.size(1) == backprops_.size(1));
}

FactoredGradients FactoredGradients::from_dense(const at::Tensor& gradients,
                                                std::vector<int64_t> shape, std::string method) {
  const auto examples = gradients.size(0);
  auto ones = at::ones({1, 1, 1}, gradients.options()).expand({examples, 1, 1});
  auto flat = gradients.reshape({examples, 1, examples == 0 ? 0 : gradients.numel() / examples});
  return {std::move(ones), std::move(flat), std::move(shape), std::move(method)};
}

int64_t FactoredGradients::bytes() const {
  return static_cast<int64_t>(activations_.storage().nbytes() + backprops_.storage().nbytes());
}

FactoredGradients FactoredGradients::slice(int64_t begin, int64_t end) const {
  return {activations_.slice(0, begin, end), backprops_.slice(0, begin, end), shape_, method_};
}

FactoredGradients FactoredGradients::slice_outputs(int64_t begin, int64_t end) const {
  return {activations_, backprops_.slice(2, begin, end), {end - begin, inputs()}, method_};
}

at::Tensor FactoredGradients::dense() const {
  auto shape = shape_;
  shape.insert(shape.begin(), size());
  return at::bmm(backprops_.transpose(1, 2), activations_).reshape(shape);
}

/// Multiply-adds an example: position Gram matrices S^2 (I + O), against S I O to form g_i and I O
/// to square it.
bool FactoredGradients::forming_is_cheaper() const {
  return positions() * positions() * (inputs() + outputs()) >
         (positions() + 1) * inputs() * outputs();
}

int64_t FactoredGradients::tile_examples() const {
  return std::max<int64_t>(1, kTileElements / (inputs() * outputs()));
}

at::Tensor FactoredGradients::squared_norms() const {
  if (positions() == 1) {
    const auto norms = [](const at::Tensor& rows) {
      return at::linalg_vector_norm(rows, 2, at::IntArrayRef{1, 2});
    };
    return (norms(activations_) * norms(backprops_)).square_();
  }
  if (!forming_is_cheaper()) {
    return inner(*this);
  }
  const auto tile = tile_examples();
  std::vector<at::Tensor> norms;
  for (int64_t begin = 0; begin < size(); begin += tile) {
    const auto end = std::min(begin + tile, size());
    norms.push_back(slice(begin, end).dense().flatten(1).square().sum(1));
  }
  return at::cat(norms);
}

at::Tensor FactoredGradients::inner(const at::Tensor& direction) const {
  const auto matrix = direction.reshape({outputs(), inputs()});
  return (at::matmul(backprops_, matrix) * activations_).sum({1, 2});
}

at::Tensor FactoredGradients::inner(const FactoredGradients& other) const {
  if (positions() == 1 && other.positions() == 1) {
    return (activations_ * other.activations_).sum({1, 2}) *
           (backprops_ * other.backprops_).sum({1, 2});
  }
  return (at::bmm(activations_, other.activations_.transpose(1, 2)) *
          at::bmm(backprops_, other.backprops_.transpose(1, 2)))
      .sum({1, 2});
}

at::Tensor FactoredGradients::gram(const FactoredGradients& other) const {
  auto products = at::mm(activations_.flatten(0, 1), other.activations_.flatten(0, 1).t())
                      .mul_(at::mm(backprops_.flatten(0, 1), other.backprops_.flatten(0, 1).t()));
  if (positions() == 1 && other.positions() == 1) {
    return products;
  }
  return products.reshape({size(), positions(), other.size(), other.positions()}).sum({1, 3});
}

at::Tensor FactoredGradients::inner_rank1(const at::Tensor& input_side,
                                          const at::Tensor& output_side) const {
  const auto centers = input_side.size(0);
  // Eq. 9: S K (I + O); Eq. 8: S I O to form g_i, then K I O for the products with all centers.
  const auto by_factors = positions() * centers * (inputs() + outputs());
  const auto by_forming = (positions() + centers) * inputs() * outputs();
  if (by_factors <= by_forming) {
    return at::matmul(activations_, input_side.t())
        .mul_(at::matmul(backprops_, output_side.t()))
        .sum(1);
  }
  const auto matrices = at::bmm(output_side.unsqueeze(2), input_side.unsqueeze(1)).flatten(1);
  return at::mm(dense().flatten(1), matrices.t());
}

at::Tensor FactoredGradients::sum() const {
  return product_over_examples(backprops_, activations_).reshape(shape_);
}

at::Tensor FactoredGradients::weighted_sum(const at::Tensor& weights) const {
  return product_over_examples(backprops_ * weights.to(backprops_.options()).view({-1, 1, 1}),
                               activations_)
      .reshape(shape_);
}

at::Tensor FactoredGradients::sum_squares() const { return sum_products(*this); }

bool FactoredGradients::few_pairs(const FactoredGradients& other) const {
  return positions() * other.positions() <= kMaxPairedPositions;
}

// (sum_s d_s a_s) (sum_t e_t b_t) = sum_st (d_s e_t) (a_s b_t) in every coordinate; in a square,
// the pairs (s, t) and (t, s) are the same.
FactoredGradients FactoredGradients::products(const FactoredGradients& other) const {
  if (positions() == 1 && other.positions() == 1) {
    return {activations_ * other.activations_, backprops_ * other.backprops_, shape_, method_};
  }
  const bool square = this == &other;
  std::vector<at::Tensor> activations, backprops;
  for (int64_t s = 0; s < positions(); ++s) {
    for (int64_t t = square ? s : 0; t < other.positions(); ++t) {
      activations.push_back(activations_.select(1, s) * other.activations_.select(1, t));
      backprops.push_back(backprops_.select(1, s) * other.backprops_.select(1, t));
      if (square && t > s) {
        backprops.back().mul_(2);
      }
    }
  }
  return {at::stack(activations, 1), at::stack(backprops, 1), shape_, method_};
}

at::Tensor FactoredGradients::sum_products(const FactoredGradients& other) const {
  if (few_pairs(other)) {
    return products(other).sum();
  }
  const auto tile = tile_examples();
  auto total = at::zeros(shape_, activations_.options());
  for (int64_t begin = 0; begin < size(); begin += tile) {
    const auto end = std::min(begin + tile, size());
    total += (slice(begin, end).dense() * other.slice(begin, end).dense()).sum(0);
  }
  return total;
}

at::Tensor FactoredGradients::difference_squared_norms(const FactoredGradients& snapshot) const {
  if (positions() > 1) {
    return difference(snapshot).squared_norms().to(at::kDouble);
  }
  // ||(d - e) a^T + e (a - b)^T||^2, with e = d - (d - e): inner products of d - e and e follow
  // from those of d and d - e.
  const auto a =
      detail::row_products(activations_.select(1, 0), snapshot.activations_.select(1, 0));
  const auto d = detail::row_products(snapshot.backprops_.select(1, 0), backprops_.select(1, 0));
  return d.difference * a.squared - d.cross * a.cross * 2 + d.squared * a.difference;
}

FactoredGradients FactoredGradients::difference(const FactoredGradients& snapshot) const {
  return {at::cat({activations_, activations_ - snapshot.activations_}, 1),
          at::cat({backprops_ - snapshot.backprops_, snapshot.backprops_}, 1), shape_, method_};
}

FactoredGradients FactoredGradients::joined(const FactoredGradients& other) const {
  return {at::cat({activations_, other.activations_}, 1),
          at::cat({backprops_, other.backprops_}, 1), shape_, method_};
}

at::Tensor FactoredGradients::sketch(const at::Tensor& input_projection,
                                     const at::Tensor& output_projection) const {
  const auto activations =
      input_projection.defined() ? at::matmul(activations_, input_projection.t()) : activations_;
  const auto backprops =
      output_projection.defined() ? at::matmul(backprops_, output_projection.t()) : backprops_;
  return at::bmm(backprops.transpose(1, 2), activations).flatten(1);
}

}  // namespace gradist
