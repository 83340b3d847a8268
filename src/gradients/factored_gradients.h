#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace gradist {

/// The gradients of B single examples with respect to one parameter W [O, I], kept in factors:
///
///   g_i = sum_s d_is a_is^T,    a [B, S, I] activations,  d [B, S, O] backprops of the *summed*
///   loss.
///
/// S counts positions (tokens, pixels; 1 for plain Linear) and the uses of a tied weight. A bias,
/// and a gradient formed one example at a time, is the case I = 1, a = 1. Nothing is divided by B
/// anywhere. [Faghri20] section 3.2.
///
/// Results have the dtype and device of the factors; sums over examples are for one chunk, wider
/// sums go through MomentAccumulator. Costs are multiply-adds for B examples, S = 1.
class FactoredGradients {
 public:
  /// `shape` is the parameter's own shape, with O * I coordinates; `method` says how the factors
  /// came about ("linear", "bias", "one-by-one", "unused") and is what `coverage` shows.
  FactoredGradients(at::Tensor activations, at::Tensor backprops, std::vector<int64_t> shape,
                    std::string method);

  /// The case of an embedding, W [V, D]: g_i has row d_is for token s, so O = V with the one-hot
  /// vectors of `rows` [B, S] (int64, in 0..V-1) in the backprops' place and the layer's own
  /// backprops [B, S, D] in the activations'. The one-hot vectors are made only where an operation
  /// needs them.
  static FactoredGradients from_rows(const at::Tensor& rows, const at::Tensor& values,
                                     std::vector<int64_t> shape, std::string method);

  /// The case I = 1: gradients [B, ...] already formed (or summed over positions).
  static FactoredGradients from_dense(const at::Tensor& gradients, std::vector<int64_t> shape,
                                      std::string method);

  /// Zeros for a parameter without influence on the loss; no memory. Method "unused".
  static FactoredGradients unused(const at::Tensor& parameter, int64_t examples);

  int64_t size() const { return activations_.size(0); }                                 ///< B
  int64_t positions() const { return activations_.size(1); }                            ///< S
  int64_t inputs() const { return activations_.size(2); }                               ///< I
  int64_t outputs() const { return rows_.defined() ? shape_[0] : backprops_.size(2); }  ///< O

  /// The parameter as a matrix: its first dimension, and all others. O and I but for a formed
  /// gradient, whose factors are 1 and O * I wide.
  int64_t rows() const { return shape_.empty() ? 1 : shape_[0]; }
  int64_t columns() const { return inputs() * outputs() / std::max<int64_t>(rows(), 1); }

  const at::Tensor& activations() const { return activations_; }
  at::Tensor backprops() const;                        ///< [B, S, O], one-hot vectors formed
  at::Tensor backprop_sums() const;                    ///< sum_s d_is, [B, O]
  const at::Tensor& one_hot() const { return rows_; }  ///< `rows` of from_rows; else undefined
  const std::vector<int64_t>& shape() const { return shape_; }
  const std::string& method() const { return method_; }
  int64_t bytes() const;  ///< memory of the two factors, one-hot vectors as numbers of rows

  /// Examples [begin, end), as a view.
  FactoredGradients slice(int64_t begin, int64_t end) const;

  /// The same parameter with each of the factors [B, ...] replaced by what `change` makes of it.
  FactoredGradients mapped(const std::function<at::Tensor(const at::Tensor&)>& change) const;

  /// Rows [begin, end) of the parameter's O outputs, as a view; shape is then [end - begin, I].
  FactoredGradients slice_outputs(int64_t begin, int64_t end) const;

  /// g_i of every example, [B, *shape]. Costs B P memory: for tests and small parameters.
  at::Tensor dense() const;

  /// ||g_i||^2, [B]. B (I + O); for S > 1 the cheaper of position Gram matrices and forming g_i.
  at::Tensor squared_norms() const;

  /// Both ||g_i||^2, [B], and sum_i g_i, of the parameter's shape, from one formation of each g_i
  /// where they are formed.
  std::pair<at::Tensor, at::Tensor> squared_norms_and_sum() const;

  /// <g_i, v> for a direction v of the parameter's shape, [B]. B I O.
  at::Tensor inner(const at::Tensor& direction) const;

  /// <g_i, h_i>, [B], for the same examples under other factors. B (I + O).
  at::Tensor inner(const FactoredGradients& other) const;

  /// <g_i, h_j>, [B, B']. B B' (I + O); by rows B B' I times the rows that occur.
  at::Tensor gram(const FactoredGradients& other) const;

  /// <g_i, c_k e_k^T> for rank-1 matrices with input side c [K, I] and output side e [K, O], [B,
  /// K]. [Faghri20] Eqs. 5, 8, 9; the cheaper of the two orders.
  at::Tensor inner_rank1(const at::Tensor& input_side, const at::Tensor& output_side) const;

  /// Which one that is for K centers of rank R, by the multiply-adds of an example: forming g_i and
  /// the products with it (Eq. 8), (S + K) I O, are fewer than by factors (Eq. 9), S K R (I + O),
  /// or S K R (I + 1) where a factor is one-hot.
  bool centers_by_forming(int64_t centers, int64_t rank = 1) const;

  /// sum_i g_i, of the parameter's shape. B I O.
  at::Tensor sum() const;

  /// w_i g_i for weights w [B], in factors.
  FactoredGradients scaled(const at::Tensor& weights) const;

  /// sum_i w_i g_i for weights w [B]. B I O.
  at::Tensor weighted_sum(const at::Tensor& weights) const;

  /// sum_i g_ij^2 for every coordinate j, of the parameter's shape. B I O; S (S + 1) / 2 as much
  /// for small S > 1.
  at::Tensor sum_squares() const;

  /// sum_i g_ij h_ij for every coordinate j, of the parameter's shape. B I O.
  at::Tensor sum_products(const FactoredGradients& other) const;

  /// The coordinate-wise products g_ij h_ij, themselves in factors: one position per pair (s, t),
  /// a_s b_t and d_s e_t; for squares (`other` is this object) S (S + 1) / 2 positions. Only for
  /// few pairs, see `few_pairs`.
  FactoredGradients products(const FactoredGradients& other) const;
  bool few_pairs(const FactoredGradients& other) const;

  /// ||g_i - h_i||^2 in the stable form, [B] float64. B (I + O).
  at::Tensor difference_squared_norms(const FactoredGradients& snapshot) const;

  /// g_i - h_i in the stable form (d - e) a^T + e (a - b)^T for h_i = sum_s e_is b_is^T: no
  /// difference of large norms.
  FactoredGradients difference(const FactoredGradients& snapshot) const;

  /// Both uses of one parameter in the same pass (tied weights): g_i + h_i, positions side by side;
  /// formed where the two have their coordinates in factors of different widths.
  FactoredGradients joined(const FactoredGradients& other) const;

  /// Random sketch P_o g_i P_i^T = sum_s (P_o d_is)(P_i a_is)^T of the parameter as a matrix, [B,
  /// o * i], for projections P_i of its columns and P_o of its rows; an undefined projection keeps
  /// that side as it is. With E[P^T P] = 1, inner products of sketches estimate those of gradients.
  at::Tensor sketch(const at::Tensor& input_projection, const at::Tensor& output_projection) const;

 private:
  bool both_by_rows(const FactoredGradients& other) const;
  bool forming_is_cheaper() const;
  bool gram_by_forming(const FactoredGradients& other) const;
  at::Tensor gram_by_rows(const FactoredGradients& other) const;
  at::Tensor inner_of_rows(const FactoredGradients& other) const;
  int64_t tile_examples() const;  ///< examples whose formed gradients fill one tile
  at::Tensor backprops_times(const at::Tensor& matrix) const;  ///< D_i M for M [O, m], [B, S, m]
  at::Tensor row_numbers() const;        ///< of rows [B, S] in the parameters of all examples
  at::Tensor row_squared_norms() const;  ///< ||g_i||^2 where g_i is given by rows
  at::Tensor sum_row_products(const FactoredGradients& other) const;  ///< of the same rows

  at::Tensor activations_, backprops_;
  at::Tensor rows_;  ///< [B, S] int64, in place of backprops_
  std::vector<int64_t> shape_;
  std::string method_;
  bool formed_ = false;  ///< made by from_dense: the activations are ones
};

}  // namespace gradist
