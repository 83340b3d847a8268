#include "gradients/kernels.h"
#include "gradients/layer_rules.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/embedding.h>

#include <utility>

namespace gradist::rules {
namespace {

class EmbeddingUse final : public LayerUse {
 public:
  EmbeddingUse(const at::Tensor& tokens, const at::Tensor& weight, int64_t padding_index)
      : LayerUse(tokens, "an embedding"), weight_(weight.detach()), padding_index_(padding_index) {
    add_parameter(weight, Role::kWeight);
  }

  /// Tokens have no dimension besides: [S, B] will do.
  bool fits(const BatchLayout& layout) const override {
    const auto dimension = layout.sequence_first ? 1 : 0;
    return raw_input().dim() > dimension && raw_input().size(dimension) == layout.examples;
  }

  at::Tensor forward() override { return at::embedding(weight_, take_input(), padding_index_); }

  FactoredGradients gradients(const Parameter& parameter,
                              const at::Tensor& backprops) const override {
    const auto [rows, d] = factors(backprops);
    return FactoredGradients::from_rows(rows, d, parameter.shape(), "embedding");
  }

  NormsAndSum norms_and_sum(const Parameter& /*parameter*/, const at::Tensor& backprops,
                            MethodChoices& /*choices*/) const override {
    const auto [rows, d] = factors(backprops);
    const auto found = kernels::token_squared_norms(rows, d, weight_.size(0));
    return {found.squared_norms, found.sum, "embedding", ""};
  }

 private:
  /// Tokens [B, S] and backprops [B, S, I], which are 0 where the token is padding.
  std::pair<at::Tensor, at::Tensor> factors(const at::Tensor& backprops) const {
    const auto tokens = by_example(input()).to(at::kLong);
    const auto rows = tokens.reshape({tokens.size(0), -1});
    auto d = by_example(backprops).reshape({rows.size(0), rows.size(1), weight_.size(1)});
    if (padding_index_ >= 0) {
      d = d * (rows != padding_index_).unsqueeze(2);
    }
    return {rows, d};
  }

  at::Tensor weight_;
  int64_t padding_index_;
};

}  // namespace

Use embedding(const at::Tensor& tokens, const at::Tensor& weight, int64_t padding_index) {
  return std::make_unique<EmbeddingUse>(tokens, weight, padding_index);
}

}  // namespace gradist::rules
