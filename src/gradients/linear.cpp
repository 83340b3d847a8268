#include "gradients/amx_linear.h"
#include "gradients/kernels.h"
#include "gradients/layer_rules.h"

#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/saved_variable.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace gradist::rules {
namespace {

/// [B, ..., n] -> [B, S, n].
at::Tensor with_positions(const at::Tensor& values) {
  return values.reshape({values.size(0), -1, values.size(-1)});
}

/// A product that torch computes, or AMX (undefined where it cannot), as `choices` say.
at::Tensor chosen_product(MethodChoices& choices, const std::string& name, double torchs_operations,
                          double amx_operations, const std::function<at::Tensor()>& torchs,
                          const std::function<at::Tensor()>& by_amx) {
  const std::vector<MethodChoices::Way<at::Tensor>> ways{
      {"BLAS", torchs_operations, torchs},
      {"AMX", amx_operations,
       [&] {
         const auto product = by_amx();
         return product.defined() ? product : torchs();
       }},
  };
  return choices.compute(name, ways);
}

/// d -> d W in the graph of a linear layer, by torch or AMX as `choices` say; null: by torch.
class LinearBackprops final : public torch::autograd::Node {
 public:
  LinearBackprops(const at::Tensor& input, const at::Tensor& weight, std::string name,
                  std::shared_ptr<MethodChoices> choices)
      : Node(torch::autograd::collect_next_edges(input)),
        weight_(weight, /*is_output=*/false),
        name_(std::move(name)),
        choices_(std::move(choices)) {}

  torch::autograd::variable_list apply(torch::autograd::variable_list&& grads) override {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto& d = grads[0];
    if (!d.defined()) {
      return {at::Tensor()};
    }
    const auto weight = weight_.unpack();
    const auto torchs = [&] { return at::matmul(d, weight); };
    // In grad mode this will be differentiated itself.
    if (!choices_ || at::GradMode::is_enabled() ||
        !detail::can_multiply_by_amx(d, weight.t(), {})) {
      return {torchs()};
    }
    const auto rows = static_cast<double>(d.numel() / d.size(-1)),
               I = static_cast<double>(weight.size(1)), O = static_cast<double>(weight.size(0));
    return {chosen_product(*choices_, name_, rows * I * O,
                           kernels::amx_forming_operations(O, rows, I), torchs,
                           [&] { return detail::linear_backprops_by_amx(d, weight); })};
  }

  void release_variables() override {
    const std::lock_guard<std::mutex> lock(mutex_);
    weight_.reset_data();
  }

  std::string name() const override { return "LinearBackprops"; }

 private:
  torch::autograd::SavedVariable weight_;
  std::string name_;
  std::shared_ptr<MethodChoices> choices_;
};

class LinearUse final : public LayerUse {
 public:
  /// `transposed`: W is [I, O].
  LinearUse(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
            bool transposed, LinearProducts products)
      : LayerUse(input, "a linear layer"),
        weight_(weight.detach()),
        bias_(bias.defined() ? bias.detach() : bias),
        transposed_(transposed),
        products_(std::move(products)) {
    add_parameter(weight, Role::kWeight);
    add_parameter(bias, Role::kBias);
  }

  at::Tensor forward() override {
    const auto input = take_input();
    const auto weight = transposed_ ? weight_.t() : weight_;
    if (!(products_.outputs || products_.backprops) ||
        !detail::can_multiply_by_amx(input, weight, bias_)) {
      return by_torch(input);
    }
    auto output = products_.outputs ? chosen_output(input, weight) : output_alone(input);
    if (at::GradMode::is_enabled() && input.requires_grad()) {
      const auto backward = std::make_shared<LinearBackprops>(
          input, weight, describe("backprops of linear", output, input), products_.backprops);
      torch::autograd::create_gradient_edge(output, backward);
    }
    return output;
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
  at::Tensor by_torch(const at::Tensor& input) const {
    return transposed_ ? at::matmul(input, weight_) : at::linear(input, weight_, bias_);
  }

  /// The same bits without a graph: not even as a view of anything.
  at::Tensor output_alone(const at::Tensor& input) const {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    return by_torch(input);
  }

  at::Tensor chosen_output(const at::Tensor& input, const at::Tensor& weight) const {
    const auto I = static_cast<double>(weight.size(1)), O = static_cast<double>(weight.size(0)),
               rows = static_cast<double>(input.numel()) / I;
    return chosen_product(
        *products_.outputs, describe("outputs of linear", input, weight), rows * I * O,
        kernels::amx_forming_operations(I, rows, O), [&] { return output_alone(input); },
        [&] {
          const at::AutoDispatchBelowADInplaceOrView below_autograd;
          return detail::linear_outputs_by_amx(input, weight, bias_);
        });
  }

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
    const std::vector<MethodChoices::Way<NormsAndSum>> ways{
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
    std::vector<MethodChoices::Way<NormsAndSum>> ways{
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
  bool transposed_;
  LinearProducts products_;
};

}  // namespace

Use linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
           LinearProducts products) {
  return std::make_unique<LinearUse>(input, weight, bias, false, std::move(products));
}

Use matmul(const at::Tensor& input, const at::Tensor& weight, LinearProducts products) {
  return std::make_unique<LinearUse>(input, weight, at::Tensor(), true, std::move(products));
}

}  // namespace gradist::rules
