#include "gradients/amx_linear.h"
#include "gradients/kernels.h"
#include "gradients/layer_rules.h"

#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>

#include <utility>
#include <vector>

namespace gradist::rules {
namespace {

/// [B, ..., n] -> [B, S, n].
at::Tensor with_positions(const at::Tensor& values) {
  return values.reshape({values.size(0), -1, values.size(-1)});
}

class LinearUse final : public LayerUse {
 public:
  /// `transposed`: W is [I, O].
  LinearUse(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
            bool transposed, bool by_amx)
      : LayerUse(input, "a linear layer"),
        weight_(weight.detach()),
        bias_(bias.defined() ? bias.detach() : bias),
        transposed_(transposed),
        by_amx_(by_amx) {
    add_parameter(weight, Role::kWeight);
    add_parameter(bias, Role::kBias);
  }

  at::Tensor forward() override {
    const auto input = take_input();
    if (by_amx_) {
      const auto weight = transposed_ ? weight_.t() : weight_;
      if (const auto output = detail::linear_by_amx(input, weight, bias_); output.defined()) {
        return output;
      }
    }
    return transposed_ ? at::matmul(input, weight_) : at::linear(input, weight_, bias_);
  }

  FactoredGradients gradients(const Parameter& parameter,
                              const at::Tensor& backprops) const override {
    const auto d = with_positions(by_example(backprops));
    if (parameter.role == Role::kBias) {
      return FactoredGradients::from_dense(d.size(1) == 1 ? d.select(1, 0) : d.sum(1),
                                           parameter.shape(), "bias");
    }
    const auto a = with_positions(input_by_example(backprops));
    const auto shape = parameter.shape();
    return transposed_ ? FactoredGradients(d, a, shape, "linear")
                       : FactoredGradients(a, d, shape, "linear");
  }

  std::vector<NormsAndSum> norms_and_sums(const at::Tensor& backprops,
                                          MethodChoices& choices) const override {
    return backprops.dim() == 2 ? of_rows(backprops, choices) : over_positions(backprops, choices);
  }

 private:
  /// With one position all norms come from the same two.
  std::vector<NormsAndSum> of_rows(const at::Tensor& backprops, MethodChoices& choices) const {
    auto d = by_example(backprops), a = input_by_example(backprops);
    if (transposed_) {
      std::swap(a, d);
    }
    kernels::OuterProducts products;
    const auto by = [&](kernels::Multiplier multiplier) {
      products = kernels::outer_products(a, d, multiplier);
      return NormsAndSum{products.weight.squared_norms, products.weight.sum, "linear", ""};
    };
    const auto weight = summed(a, d, by, choices);
    std::vector<NormsAndSum> found;
    for (const auto& each : parameters()) {
      found.push_back(each.role == Role::kBias
                          ? NormsAndSum{products.bias.squared_norms, products.bias.sum, "bias", ""}
                          : weight);
    }
    return found;
  }

  /// By BLAS or AMX, where there is a choice.
  template <typename By>
  static NormsAndSum summed(const at::Tensor& a, const at::Tensor& d, const By& by,
                            MethodChoices& choices) {
    if (!kernels::can_use_amx(a.unsqueeze(0), d.unsqueeze(0))) {
      return by(kernels::Multiplier::kVectors);
    }
    const auto B = static_cast<double>(a.size(0)), I = static_cast<double>(a.size(1)),
               O = static_cast<double>(d.size(1));
    const std::vector<MethodChoices::Way> ways{
        {"BLAS", B * I * O, [&] { return by(kernels::Multiplier::kVectors); }},
        {"AMX", kernels::amx_forming_operations(B, I, O),
         [&] { return by(kernels::Multiplier::kAmx); }},
    };
    return choices.compute(describe("linear", a, d), ways);
  }

  /// The weight is before the bias, whose gradients it may bring along.
  std::vector<NormsAndSum> over_positions(const at::Tensor& backprops,
                                          MethodChoices& choices) const {
    std::vector<NormsAndSum> found;
    at::Tensor position_sums;
    for (const auto& each : parameters()) {
      if (each.role == Role::kBias) {
        found.push_back(reduced(position_sums.defined() ? FactoredGradients::from_dense(
                                                              position_sums, each.shape(), "bias")
                                                        : gradients(each, backprops)));
      } else {
        found.push_back(of_weight(gradients(each, backprops), choices, position_sums));
      }
    }
    return found;
  }

  /// Sets `position_sums` to sum_s d_is, [B, O], if that is at hand.
  static NormsAndSum of_weight(const FactoredGradients& g, MethodChoices& choices,
                               at::Tensor& position_sums) {
    if (g.positions() == 1) {
      return reduced(g);
    }
    const auto S = static_cast<double>(g.positions()), I = static_cast<double>(g.inputs()),
               O = static_cast<double>(g.outputs());
    const auto examples = static_cast<double>(g.size());
    const auto form = [&](kernels::Multiplier multiplier) {
      const auto made = kernels::formed_squared_norms(g.activations(), g.backprops(),
                                                      /*with_sum=*/true, multiplier);
      position_sums = made.backprop_sums;
      return NormsAndSum{made.squared_norms, made.sum, g.method(), ""};
    };
    std::vector<MethodChoices::Way> ways{
        {"gram", examples * (kernels::gram_operations(S, I, O) + S * I * O),
         [&] {
           return NormsAndSum{kernels::gram_squared_norms(g.activations(), g.backprops()), g.sum(),
                              g.method(), ""};
         }},
        {"formed", examples * kernels::forming_operations(S, I, O),
         [&] { return form(kernels::Multiplier::kVectors); }},
    };
    if (kernels::can_use_amx(g.activations(), g.backprops())) {
      ways.push_back({"formed by AMX", examples * kernels::amx_forming_operations(S, I, O),
                      [&] { return form(kernels::Multiplier::kAmx); }});
    }
    return choices.compute(describe("linear", g.activations(), g.backprops()), ways);
  }

  at::Tensor weight_, bias_;
  bool transposed_, by_amx_;
};

}  // namespace

Use linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias, bool by_amx) {
  return std::make_unique<LinearUse>(input, weight, bias, false, by_amx);
}

Use matmul(const at::Tensor& input, const at::Tensor& weight, bool by_amx) {
  return std::make_unique<LinearUse>(input, weight, at::Tensor(), true, by_amx);
}

}  // namespace gradist::rules
