#pragma once

#include "support/oracles.h"
#include "support/problems.h"

#include <ATen/ATen.h>

#include <string>
#include <utility>
#include <vector>

/// Per-example gradients in factors one may choose. B examples, S positions, I inputs, O outputs.
namespace gradist::test {

/// Independent normal activations [B, S, I] and backprops [B, S, O] of a parameter [O, I].
inline FactoredGradients normal_factors(int64_t examples, int64_t positions, int64_t inputs,
                                        int64_t outputs, uint64_t seed,
                                        at::ScalarType dtype = at::kDouble) {
  return {normal({examples, positions, inputs}, 2 * seed, dtype),
          normal({examples, positions, outputs}, 2 * seed + 1, dtype),
          {outputs, inputs},
          "given"};
}

/// The examples `indices` [B] of a batch, copied.
inline GradientBatch pick(const GradientBatch& batch, const at::Tensor& indices) {
  GradientBatch picked;
  for (const FactoredGradients& g : batch.parameters) {
    picked.parameters.emplace_back(g.activations().index_select(0, indices),
                                   g.backprops().index_select(0, indices), g.shape(), g.method());
  }
  if (batch.losses.defined()) picked.losses = batch.losses.index_select(0, indices);
  return picked;
}

/// A training set whose gradients are given in factors, whatever the parameters (which are 0); the
/// losses are 0.
class FactoredSource : public TestSource {
 public:
  explicit FactoredSource(GradientBatch batch) : batch_(std::move(batch)) {
    for (const FactoredGradients& g : batch_.parameters) {
      names_.push_back("factors" + std::to_string(names_.size()));
      parameters_.push_back(at::zeros(g.shape(), g.backprops().options()).requires_grad_());
    }
    batch_.losses = at::zeros({batch_.size()}, batch_.parameters.front().backprops().options());
  }

  int64_t examples() const override { return batch_.size(); }
  GradientBatch gradients(const at::Tensor& indices) override { return pick(batch_, indices); }
  ParameterList weighted_gradient(const at::Tensor& indices, const at::Tensor& weights) override {
    return pick(batch_, indices).weighted_sum(weights);
  }
  at::Tensor oracle() const override { return dense(batch_); }

 private:
  GradientBatch batch_;
};

/// Gradients around `kinds` kinds, example i around kind `kind_of[i]`, normal noise of this size in
/// the factors: of a parameter [O, I] with a bias [O], and of one [5, O].
inline FactoredSource source_of_kinds(const at::Tensor& kind_of, int64_t kinds, double noise,
                                      int64_t inputs, int64_t outputs) {
  const auto examples = kind_of.numel();
  const auto around = [&](int64_t width, uint64_t seed) {
    return normal({kinds, 1, width}, seed).index_select(0, kind_of) +
           noise * normal({examples, 1, width}, seed + 1);
  };
  GradientBatch batch;
  batch.parameters = {{around(inputs, 10), around(outputs, 20), {outputs, inputs}, "linear"},
                      FactoredGradients::from_dense(around(outputs, 20), {outputs}, "bias"),
                      {around(outputs, 30), around(5, 40), {5, outputs}, "linear"}};
  return FactoredSource(batch);
}

}  // namespace gradist::test
