#include "gradients/factored_gradients.h"

#include "gradients/kernels.h"
#include "gradients/row_products.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/_unique2.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/floor_divide.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/ones_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>

namespace gradist {
namespace {

/// Floats that one tile of formed gradients may take (2^22, 16 MiB in float32: about a last-level
/// cache).
constexpr int64_t kTileElements = int64_t{1} << 22;

/// Squares of gradients that are given by rows are formed where the parameter has at most so many
/// rows a position; else the few that occur are found by sorting.
constexpr int64_t kRowsAPosition = 16;

/// Beyond this many pairs of positions, forming g_i is cheaper than one product per pair.
constexpr int64_t kMaxPairedPositions = 4;

/// [B, S, n] -> [n, B S] x [B S, m] products as one matrix product: sum over examples and
/// positions.
at::Tensor product_over_examples(const at::Tensor& backprops, const at::Tensor& activations) {
  return at::mm(backprops.flatten(0, 1).t(), activations.flatten(0, 1));
}

/// [count, I] with values [n, I] added to the rows of these numbers, [n]; at::index_add_ would take
/// them one by one.
at::Tensor rows_added(int64_t count, const at::Tensor& rows, const at::Tensor& values) {
  return at::zeros({count, values.size(1)}, values.options())
      .scatter_add_(0, rows.unsqueeze(1).expand_as(values), values);
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
  FactoredGradients result(std::move(ones), std::move(flat), std::move(shape), std::move(method));
  result.formed_ = true;
  return result;
}

FactoredGradients FactoredGradients::from_rows(const at::Tensor& rows, const at::Tensor& values,
                                               std::vector<int64_t> shape, std::string method) {
  FactoredGradients result(values, values, std::move(shape), std::move(method));
  result.backprops_.reset();
  result.rows_ = rows;
  return result;
}

FactoredGradients FactoredGradients::unused(const at::Tensor& parameter, int64_t examples) {
  const auto zeros = at::zeros({1, 1}, parameter.options().requires_grad(false));
  return from_dense(zeros.expand({examples, parameter.numel()}), parameter.sizes().vec(), "unused");
}

int64_t FactoredGradients::bytes() const {
  const auto element = static_cast<int64_t>(activations_.element_size());
  // Of a view of a larger tensor its own part; of one expanded what it is expanded from.
  const auto memory = [&](const at::Tensor& factor) {
    return std::min(factor.numel() * element, static_cast<int64_t>(factor.storage().nbytes()));
  };
  return memory(activations_) +
         (rows_.defined() ? static_cast<int64_t>(rows_.nbytes()) : memory(backprops_));
}

at::Tensor FactoredGradients::backprops() const {
  if (!rows_.defined()) {
    return backprops_;
  }
  const auto rows = at::arange(outputs(), rows_.options());
  return (rows_.unsqueeze(2) == rows).to(activations_.scalar_type());
}

at::Tensor FactoredGradients::backprop_sums() const {
  if (rows_.defined()) {
    return at::zeros({size(), outputs()}, activations_.options())
        .scatter_add_(1, rows_, at::ones_like(rows_, activations_.options()));
  }
  return positions() == 1 ? backprops_.select(1, 0) : backprops_.sum(1);
}

at::Tensor FactoredGradients::backprops_times(const at::Tensor& matrix) const {
  return rows_.defined()
             ? matrix.index_select(0, rows_.flatten()).view({size(), positions(), matrix.size(1)})
             : at::matmul(backprops_, matrix);
}

FactoredGradients FactoredGradients::mapped(
    const std::function<at::Tensor(const at::Tensor&)>& change) const {
  auto result = *this;
  for (auto* factor : {&result.activations_, &result.backprops_, &result.rows_}) {
    *factor = factor->defined() ? change(*factor) : *factor;
  }
  return result;
}

FactoredGradients FactoredGradients::slice(int64_t begin, int64_t end) const {
  return mapped([=](const at::Tensor& factor) { return factor.slice(0, begin, end); });
}

FactoredGradients FactoredGradients::slice_outputs(int64_t begin, int64_t end) const {
  const std::vector<int64_t> shape{end - begin, inputs()};
  if (!rows_.defined()) {
    return {activations_, backprops_.slice(2, begin, end), shape, method_};
  }
  if (begin == 0 && end == outputs()) {
    return from_rows(rows_, activations_, shape, method_);
  }
  // What is outside adds nothing to the first row.
  const auto outside = (rows_ < begin).logical_or_(rows_ >= end);
  return from_rows((rows_ - begin).masked_fill_(outside, 0),
                   activations_.masked_fill(outside.unsqueeze(2), 0), shape, method_);
}

at::Tensor FactoredGradients::dense() const {
  auto shape = shape_;
  shape.insert(shape.begin(), size());
  if (!rows_.defined()) {
    return at::bmm(backprops_.transpose(1, 2), activations_).reshape(shape);
  }
  return rows_added(size() * outputs(), row_numbers().flatten(), activations_.flatten(0, 1))
      .reshape(shape);
}

at::Tensor FactoredGradients::row_numbers() const {
  return at::arange(size(), rows_.options()).unsqueeze(1) * outputs() + rows_;
}

/// The rows of one example that have the same token are summed, then squared.
at::Tensor FactoredGradients::row_squared_norms() const {
  if (activations_.is_cpu()) {
    return kernels::token_squared_norms(rows_, activations_, outputs()).squared_norms;
  }
  const auto [pairs, positions, counts] =
      at::_unique2(row_numbers().flatten(), /*sorted=*/true, /*return_inverse=*/true);
  const auto sums = rows_added(pairs.size(0), positions, activations_.flatten(0, 1));
  return at::zeros({size()}, activations_.options())
      .index_add_(0, at::floor_divide(pairs, outputs()), sums.square().sum(1));
}

/// The same sums on both sides, multiplied, and those of all examples added.
at::Tensor FactoredGradients::sum_row_products(const FactoredGradients& other) const {
  const auto [pairs, positions, counts] =
      at::_unique2(row_numbers().flatten(), /*sorted=*/true, /*return_inverse=*/true);
  const auto& place = positions;
  const auto merged = [&, count = pairs.size(0)](const FactoredGradients& g) {
    return rows_added(count, place, g.activations_.flatten(0, 1));
  };
  const auto mine = merged(*this);
  const auto products = this == &other ? mine.square() : mine * merged(other);
  return rows_added(outputs(), pairs.remainder(outputs()), products).reshape(shape_);
}

bool FactoredGradients::both_by_rows(const FactoredGradients& other) const {
  return rows_.defined() && other.rows_.defined();
}

bool FactoredGradients::forming_is_cheaper() const {
  const auto S = static_cast<double>(positions()), I = static_cast<double>(inputs()),
             O = static_cast<double>(outputs());
  return kernels::forming_operations(S, I, O) < kernels::gram_operations(S, I, O);
}

int64_t FactoredGradients::tile_examples() const {
  return std::max<int64_t>(1, kTileElements / (inputs() * outputs()));
}

at::Tensor FactoredGradients::squared_norms() const {
  if (rows_.defined()) {
    return row_squared_norms();
  }
  if (positions() == 1) {
    const auto norms = [](const at::Tensor& rows) {
      return at::linalg_vector_norm(rows, 2, at::IntArrayRef{1, 2});
    };
    const auto outer = norms(backprops_);
    return (formed_ ? outer : norms(activations_).mul_(outer)).square_();
  }
  if (!forming_is_cheaper()) {
    return kernels::gram_squared_norms(activations_, backprops_);
  }
  return kernels::formed_squared_norms(activations_, backprops_, /*with_sum=*/false).squared_norms;
}

std::pair<at::Tensor, at::Tensor> FactoredGradients::squared_norms_and_sum() const {
  const auto both = [this](const kernels::Formed& formed) {
    return std::pair(formed.squared_norms, formed.sum.reshape(shape_));
  };
  if (rows_.defined() && activations_.is_cpu()) {
    return both(kernels::token_squared_norms(rows_, activations_, outputs()));
  }
  if (formed_ && backprops_.stride(0) != 0) {  // one expanded over the examples has no memory
    return both(kernels::row_squared_norms(backprops_.select(1, 0)));
  }
  if (rows_.defined() || positions() == 1 || !forming_is_cheaper()) {
    return {squared_norms(), sum()};
  }
  return both(kernels::formed_squared_norms(activations_, backprops_));
}

at::Tensor FactoredGradients::inner(const at::Tensor& direction) const {
  const auto matrix = direction.reshape({outputs(), inputs()});
  return (backprops_times(matrix) * activations_).sum({1, 2});
}

/// <sum_s e(t_s) v_s^T, sum_u d_u a_u^T> = sum_su d_u[t_s] <v_s, a_u>: only the outputs that are
/// rows here count.
at::Tensor FactoredGradients::inner_of_rows(const FactoredGradients& other) const {
  const auto columns = rows_.unsqueeze(1).expand({size(), other.positions(), positions()});
  return (at::bmm(other.activations_, activations_.transpose(1, 2)) *
          at::gather(other.backprops_, 2, columns))
      .sum({1, 2});
}

at::Tensor FactoredGradients::inner(const FactoredGradients& other) const {
  const bool by_rows = both_by_rows(other);
  if (!by_rows && (rows_.defined() || other.rows_.defined()) && inputs() == other.inputs()) {
    return rows_.defined() ? inner_of_rows(other) : other.inner_of_rows(*this);
  }
  if (positions() == 1 && other.positions() == 1 && !by_rows) {
    return (activations_ * other.activations_).sum({1, 2}) *
           (backprops() * other.backprops()).sum({1, 2});
  }
  const auto products = at::bmm(activations_, other.activations_.transpose(1, 2));
  if (by_rows) {
    return (products * (rows_.unsqueeze(2) == other.rows_.unsqueeze(1))).sum({1, 2});
  }
  return (products * at::bmm(backprops(), other.backprops().transpose(1, 2))).sum({1, 2});
}

/// Multiply-adds of the pairs of positions, against those of forming both sides first. The products
/// of all pairs of positions at once also take memory, S^2 as much as the result.
bool FactoredGradients::gram_by_forming(const FactoredGradients& other) const {
  const auto pairs = size() * positions() * other.size() * other.positions();
  const auto sides = size() * positions() + other.size() * other.positions();
  return pairs * (inputs() + outputs()) > (sides + size() * other.size()) * inputs() * outputs();
}

/// Both sides formed, of the few rows that occur in them a tile at a time.
at::Tensor FactoredGradients::gram_by_rows(const FactoredGradients& other) const {
  const auto [occurring, places, counts] = at::_unique2(
      at::cat({rows_.flatten(), other.rows_.flatten()}), /*sorted=*/true, /*return_inverse=*/true);
  const auto count = occurring.numel();
  const auto renumbered = [count](const FactoredGradients& g, const at::Tensor& rows) {
    return from_rows(rows.view(g.rows_.sizes()), g.activations_, {count, g.inputs()}, "");
  };
  const auto mine = renumbered(*this, places.slice(0, 0, rows_.numel()));
  const auto others = renumbered(other, places.slice(0, rows_.numel()));
  const auto tile =
      std::max<int64_t>(1, kTileElements / (inputs() * std::max(size(), other.size())));
  auto products = at::zeros({size(), other.size()}, activations_.options());
  for (int64_t begin = 0; begin < count; begin += tile) {
    const auto end = std::min(begin + tile, count);
    products.addmm_(mine.slice_outputs(begin, end).dense().flatten(1),
                    others.slice_outputs(begin, end).dense().flatten(1).t());
  }
  return products;
}

at::Tensor FactoredGradients::gram(const FactoredGradients& other) const {
  if (both_by_rows(other)) {
    return gram_by_rows(other);
  }
  if (gram_by_forming(other)) {
    const auto rows = [](const FactoredGradients& g) {
      return g.dense().reshape({g.size(), g.outputs() * g.inputs()});
    };
    return at::mm(rows(*this), rows(other).t());
  }
  auto products = at::mm(activations_.flatten(0, 1), other.activations_.flatten(0, 1).t());
  products.mul_(at::mm(backprops().flatten(0, 1), other.backprops().flatten(0, 1).t()));
  if (positions() == 1 && other.positions() == 1) {
    return products;
  }
  return products.reshape({size(), positions(), other.size(), other.positions()}).sum({1, 3});
}

bool FactoredGradients::centers_by_forming(int64_t centers, int64_t rank) const {
  return (positions() + centers) * inputs() * outputs() <
         positions() * centers * rank * (inputs() + (rows_.defined() ? 1 : outputs()));
}

at::Tensor FactoredGradients::inner_rank1(const at::Tensor& input_side,
                                          const at::Tensor& output_side) const {
  if (!centers_by_forming(input_side.size(0))) {
    return at::matmul(activations_, input_side.t()).mul_(backprops_times(output_side.t())).sum(1);
  }
  const auto matrices = at::bmm(output_side.unsqueeze(2), input_side.unsqueeze(1)).flatten(1);
  return at::mm(dense().reshape({size(), outputs() * inputs()}), matrices.t());
}

at::Tensor FactoredGradients::sum() const {
  if (rows_.defined()) {
    return rows_added(outputs(), rows_.flatten(), activations_.flatten(0, 1)).reshape(shape_);
  }
  if (formed_) {
    return backprops_.sum(at::IntArrayRef{0, 1}).reshape(shape_);
  }
  return product_over_examples(backprops_, activations_).reshape(shape_);
}

FactoredGradients FactoredGradients::scaled(const at::Tensor& weights) const {
  const auto each = weights.to(activations_.options()).view({-1, 1, 1});
  auto result = *this;
  if (rows_.defined()) {
    result.activations_ = activations_ * each;
  } else {
    result.backprops_ = backprops_ * each;
  }
  return result;
}

at::Tensor FactoredGradients::weighted_sum(const at::Tensor& weights) const {
  return scaled(weights).sum();
}

at::Tensor FactoredGradients::sum_squares() const { return sum_products(*this); }

bool FactoredGradients::few_pairs(const FactoredGradients& other) const {
  return !rows_.defined() && !other.rows_.defined() &&
         positions() * other.positions() <= kMaxPairedPositions;
}

// (sum_s d_s a_s) (sum_t e_t b_t) = sum_st (d_s e_t) (a_s b_t) in every coordinate; in a square,
// the pairs (s, t) and (t, s) are the same.
FactoredGradients FactoredGradients::products(const FactoredGradients& other) const {
  const auto mine = backprops();
  const auto theirs = other.backprops();
  if (positions() == 1 && other.positions() == 1) {
    return {activations_ * other.activations_, mine * theirs, shape_, method_};
  }
  const bool square = this == &other;
  std::vector<at::Tensor> activations, backprops;
  for (int64_t s = 0; s < positions(); ++s) {
    for (int64_t t = square ? s : 0; t < other.positions(); ++t) {
      activations.push_back(activations_.select(1, s) * other.activations_.select(1, t));
      backprops.push_back(mine.select(1, s) * theirs.select(1, t));
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
  if (both_by_rows(other) && outputs() > kRowsAPosition * positions() &&
      at::equal(rows_, other.rows_)) {
    return sum_row_products(other);
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
  if (positions() > 1 || rows_.defined()) {
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
  if (formed_ && snapshot.formed_) {
    auto result = *this;
    result.backprops_ = backprops_ - snapshot.backprops_;
    return result;
  }
  if (rows_.defined()) {
    // The tokens are data, the same on both sides.
    return from_rows(rows_, activations_ - snapshot.activations_, shape_, method_);
  }
  return {at::cat({activations_, activations_ - snapshot.activations_}, 1),
          at::cat({backprops_ - snapshot.backprops_, snapshot.backprops_}, 1), shape_, method_};
}

FactoredGradients FactoredGradients::joined(const FactoredGradients& other) const {
  const auto method = method_ == other.method_ ? method_ : method_ + ", " + other.method_;
  if (both_by_rows(other)) {
    return from_rows(at::cat({rows_, other.rows_}, 1),
                     at::cat({activations_, other.activations_}, 1), shape_, method);
  }
  if (inputs() != other.inputs()) {
    return from_dense(dense() + other.dense(), shape_, method);
  }
  return {at::cat({activations_, other.activations_}, 1),
          at::cat({backprops(), other.backprops()}, 1), shape_, method};
}

at::Tensor FactoredGradients::sketch(const at::Tensor& input_projection,
                                     const at::Tensor& output_projection) const {
  if (formed_) {
    auto matrices = backprops_.reshape({size(), rows(), columns()});
    if (input_projection.defined()) {
      matrices = at::matmul(matrices, input_projection.t());
    }
    if (output_projection.defined() && matrices.size(2) == 1) {
      // Of columns one product of matrices, where at::matmul would make one an example.
      return at::mm(matrices.flatten(1), output_projection.t());
    }
    if (output_projection.defined()) {
      matrices = at::matmul(output_projection, matrices);
    }
    return matrices.flatten(1);
  }
  const auto activations =
      input_projection.defined() ? at::matmul(activations_, input_projection.t()) : activations_;
  const auto projected =
      output_projection.defined() ? backprops_times(output_projection.t()) : backprops();
  // The outer product of one position is a product of numbers, which at::bmm forms slowly.
  return (positions() == 1 ? projected.transpose(1, 2) * activations
                           : at::bmm(projected.transpose(1, 2), activations))
      .flatten(1);
}

}  // namespace gradist
