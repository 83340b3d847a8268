#pragma once

#include "gradients/gradient_source.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gradist {

/// A source that remembers: what was asked for once is not computed again, as long as the factors
/// of all N examples fit into the memory. For algorithms that look at all gradients several times
/// at parameters that stand still. What it gives is what the source gave, bit for bit, but
/// `outputs`, which are not kept.
///
/// A factor that several parameters share (a layer's backprops, its weight's and its bias's) is
/// kept once, and one that is the same for every example as a single row. Where a batch does not
/// have its factors in common as the first one had, nothing is kept.
class KeptSource final : public GradientSource {
 public:
  /// `source` is used while this lives. `max_memory` bytes for all that is kept; 0: 4 GiB, or a
  /// quarter of the machine's memory if that is less.
  explicit KeptSource(GradientSource& source, int64_t max_memory = 0);

  int64_t examples() const override { return source_.examples(); }
  const ParameterList& parameters() const override { return source_.parameters(); }
  const std::vector<std::string>& parameter_names() const override {
    return source_.parameter_names();
  }
  GradientBatch gradients(const at::Tensor& indices) override;
  ParameterList weighted_gradient(const at::Tensor& indices, const at::Tensor& weights) override {
    return source_.weighted_gradient(indices, weights);
  }
  bool separable() const override { return source_.separable(); }

  /// Single-example gradients that the source was asked for.
  int64_t evaluations() const { return evaluations_; }

 private:
  /// The factors of all examples, without repetition, and which of them a batch is made of.
  struct Store {
    std::vector<at::Tensor> slots;  ///< [N, ...], or [1, ...] if the same for all
    std::vector<size_t> slot_of;    ///< of each factor of a batch, in the order of `factors_of`
    GradientBatch like;             ///< shapes and methods of the parameters, no examples
    at::Tensor known;               ///< [N] bool
    int64_t count = 0;              ///< of the known
  };

  bool knows(const at::Tensor& indices) const;
  void keep(const at::Tensor& indices, const GradientBatch& batch);
  std::optional<Store> store_like(const GradientBatch& batch) const;
  GradientBatch kept(const at::Tensor& indices) const;

  GradientSource& source_;
  int64_t max_memory_;
  int64_t evaluations_ = 0;
  bool keeps_ = true;
  std::optional<Store> store_;
};

}  // namespace gradist
