#pragma once

#include "gradients/factored_gradients.h"

#include <cstdint>
#include <string>
#include <vector>

namespace gradist {

/// One tensor per parameter of a model, in the model's order: parameters, gradients,
/// coordinate-wise sums.
using ParameterList = std::vector<at::Tensor>;

/// The gradients of a batch of B single examples with respect to all L parameters of a model, in
/// factors.
struct GradientBatch {
  std::vector<FactoredGradients> parameters;  ///< L entries
  at::Tensor losses;                          ///< [B], f_i
  at::Tensor outputs;  ///< [B, ...], what the model said; undefined where nobody asked

  int64_t size() const { return parameters.front().size(); }

  /// Examples [begin, end), as views.
  GradientBatch slice(int64_t begin, int64_t end) const;

  /// ||g_il||^2 of every parameter l and example i, [L, B], float64.
  at::Tensor squared_norms_per_parameter() const;

  /// ||g_i||^2, [B], float64.
  at::Tensor squared_norms() const;

  /// <g_i, v>, [B], float64.
  at::Tensor inner(const ParameterList& direction) const;

  /// <g_i, h_i>, [B], float64.
  at::Tensor inner(const GradientBatch& other) const;

  /// <g_i, h_j>, [B, B'], float64.
  at::Tensor gram(const GradientBatch& other) const;

  /// w_i g_i.
  GradientBatch scaled(const at::Tensor& weights) const;

  /// sum_i w_i g_i.
  ParameterList weighted_sum(const at::Tensor& weights) const;

  /// ||g_il - g~_il||^2 in the stable form, [L, B], float64.
  at::Tensor difference_squared_norms_per_parameter(const GradientBatch& snapshot) const;

  /// g_i - g~_i in the stable form, see FactoredGradients::difference.
  GradientBatch difference(const GradientBatch& snapshot) const;

  /// Memory of all factors in bytes.
  int64_t bytes() const;
};

/// Random projections that sketch a GradientBatch: at most `side` x `side` numbers a parameter, a
/// side no wider than that kept as it is. Inner products of sketches estimate inner products of
/// gradients, E<sketch(g), sketch(h)> = <g, h>.
class Sketch {
 public:
  /// Projections for parameters like those of `like`; normal entries of variance 1 / side from
  /// `seed`.
  Sketch(const GradientBatch& like, int64_t side, uint64_t seed);

  /// [B, D], D the sum of the parameters' sketch sizes; dtype of the factors.
  at::Tensor operator()(const GradientBatch& batch) const;

 private:
  std::vector<at::Tensor> input_projections_, output_projections_;
};

}  // namespace gradist
