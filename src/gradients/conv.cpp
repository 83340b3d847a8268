#include "gradients/kernels.h"
#include "gradients/layer_rules.h"
#include "gradients/tensor_formation.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/conv3d.h>
#include <ATen/ops/conv_transpose1d.h>
#include <ATen/ops/conv_transpose2d.h>
#include <ATen/ops/conv_transpose3d.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/im2col.h>

#include <algorithm>
#include <array>
#include <utility>

namespace gradist::rules {
namespace {

/// Examples a grouped convolution takes at once.
constexpr int64_t kGroupedExamples = 32;

/// Numbers that the unfolded inputs of one tile of examples may have, so that they stay in cache.
constexpr int64_t kUnfoldedNumbers = int64_t{1} << 18;

/// How much slower a multiply-add is in one of many small groups, or after unfolding, than in one
/// large product. From timings of the layers of ResNet-8 and VGG-11 on two cores.
constexpr double kGroupedSlowness = 2, kUnfoldedSlowness = 3;

/// Positions that the sum of all gradients by one plain convolution takes an example besides: it
/// matters where there are few.
constexpr double kSumOverhead = 2;

class ConvolutionUse final : public LayerUse {
 public:
  ConvolutionUse(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                 Convolution convolution)
      : LayerUse(input, "a convolution"),
        weight_(weight.detach()),
        bias_(bias.defined() ? bias.detach() : bias),
        how_(std::move(convolution)) {
    add_parameter(weight, Role::kWeight);
    add_parameter(bias, Role::kBias);
  }

  /// By the operations that autocast knows, of which at::convolution is none.
  at::Tensor forward() override {
    const auto x = take_input();
    const auto bias = bias_.defined() ? std::optional(bias_) : std::nullopt;
    const auto dimensions = weight_.dim() - 2;
    if (how_.transposed) {
      const auto apply = dimensions == 1   ? at::conv_transpose1d
                         : dimensions == 2 ? at::conv_transpose2d
                                           : at::conv_transpose3d;
      return apply(x, weight_, bias, how_.stride, how_.padding, how_.output_padding, how_.groups,
                   how_.dilation);
    }
    using Apply =
        at::Tensor (*)(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                       at::IntArrayRef, at::IntArrayRef, at::IntArrayRef, int64_t);
    const Apply apply = dimensions == 1   ? Apply{at::conv1d}
                        : dimensions == 2 ? Apply{at::conv2d}
                                          : Apply{at::conv3d};
    return apply(x, weight_, bias, how_.stride, how_.padding, how_.dilation, how_.groups);
  }

  FactoredGradients gradients(const Parameter& parameter,
                              const at::Tensor& backprops) const override {
    const auto d = by_example(backprops);
    if (parameter.role == Role::kBias) {
      return FactoredGradients::from_dense(d.flatten(2).sum(2), bias_.sizes().vec(), "bias");
    }
    const auto x = input_by_example(backprops);
    const auto shape = weight_.sizes().vec();
    if (unfolds() && small_factors(d)) {
      const auto [activations, factors] = unfolded(x, d);
      return {activations.transpose(1, 2).contiguous(), factors.transpose(1, 2), shape, "conv"};
    }
    if (unfolds() && detail::can_form(plane(x), plane(d), geometry())) {
      return FactoredGradients::from_dense(
          detail::form_gradients(plane(x), plane(d), geometry()).flatten(1), shape, "conv");
    }
    std::vector<at::Tensor> formed;
    for (int64_t begin = 0; begin < x.size(0); begin += kGroupedExamples) {
      const auto end = std::min(begin + kGroupedExamples, x.size(0));
      formed.push_back(grouped(x.slice(0, begin, end), d.slice(0, begin, end)));
    }
    return FactoredGradients::from_dense(at::cat(formed), shape, "conv");
  }

  NormsAndSum norms_and_sum(const Parameter& parameter, const at::Tensor& backprops,
                            MethodChoices& choices) const override {
    if (parameter.role == Role::kBias) {
      return reduced(gradients(parameter, backprops));
    }
    const auto d = by_example(backprops);
    const auto x = input_by_example(backprops);
    const auto examples = static_cast<double>(x.size(0));
    const auto positions = static_cast<double>(unfolded_positions(d));
    const auto coordinates = static_cast<double>(weight_.numel());
    const auto sides = static_cast<double>(weight_.size(0) + weight_.numel() / weight_.size(0));
    const auto forming = examples * (positions + 1) * coordinates;
    std::vector<MethodChoices::Way<NormsAndSum>> ways;
    if (has_kernel(x, d)) {
      const auto operations =
          d.is_cpu() ? examples * detail::operations_to_form(plane(x), plane(d), geometry())
                     : forming;
      ways.push_back({"in registers", operations, [&] {
                        const auto formed =
                            kernels::conv_squared_norms(plane(x), plane(d), geometry());
                        return NormsAndSum{formed.squared_norms,
                                           formed.sum.reshape(weight_.sizes()), "conv", ""};
                      }});
    }
    ways.push_back({"grouped convolution", kGroupedSlowness * forming, [&] {
                      return in_tiles(
                          x, d, kGroupedExamples, [this](const auto& part, const auto& b) {
                            const auto formed = grouped(part, b).flatten(1);
                            return kernels::Formed{formed.square().sum(1), formed.sum(0)};
                          });
                    }});
    if (unfolds()) {
      const auto tile = std::max<int64_t>(
          1, kUnfoldedNumbers / (weight_.numel() / weight_.size(0) * unfolded_positions(d)));
      ways.push_back({"unfolded", kUnfoldedSlowness * forming, [&, tile] {
                        return in_tiles(x, d, tile, [this](const auto& part, const auto& b) {
                          const auto [activations, factors] = unfolded(part, b);
                          return kernels::formed_squared_norms(activations.transpose(1, 2),
                                                               factors.transpose(1, 2));
                        });
                      }});
      ways.push_back({"gram",
                      kUnfoldedSlowness * examples * positions * positions * sides +
                          examples * (positions + kSumOverhead) * coordinates,
                      [&, tile] { return by_gram(x, d, tile); }});
    }
    return choices.compute(describe(description(), x, d), ways);
  }

 private:
  bool unfolds() const { return planar() && how_.groups == 1; }
  bool planar() const { return !how_.transposed && weight_.dim() <= 4; }

  /// Whether kernels.h has more for these tensors than torch's operations.
  bool has_kernel(const at::Tensor& x, const at::Tensor& d) const {
    return planar() && (d.is_cuda() || detail::can_form(plane(x), plane(d), geometry()));
  }

  /// The 1-d convolution is the 2-d one of height 1.
  at::Tensor plane(const at::Tensor& values) const {
    return weight_.dim() == 3 ? values.unsqueeze(2) : values;
  }
  kernels::ConvGeometry geometry() const {
    const auto pair = [this](at::IntArrayRef sides, int64_t absent) {
      return weight_.dim() == 3 ? std::array{absent, sides[0]} : std::array{sides[0], sides[1]};
    };
    return {pair(weight_.sizes().slice(2), 1), pair(how_.stride, 1), pair(how_.padding, 0),
            pair(how_.dilation, 1), how_.groups};
  }

  int64_t unfolded_positions(const at::Tensor& d) const {
    const auto& over = how_.transposed ? input() : d;
    return over.numel() / (over.size(0) * over.size(1));
  }

  /// Whether unfolded factors take less room than formed gradients.
  bool small_factors(const at::Tensor& d) const {
    const auto outputs = weight_.size(0), inputs = weight_.numel() / weight_.size(0);
    return unfolded_positions(d) * (inputs + outputs) < inputs * outputs;
  }

  /// [b, *weight] in one convolution with a group for every example.
  at::Tensor grouped(const at::Tensor& x, const at::Tensor& d) const {
    const auto examples = x.size(0);
    const auto as_channels = [](const at::Tensor& values) {
      return values.contiguous().flatten(0, 1).unsqueeze(0);
    };
    auto shape = weight_.sizes().vec();
    shape[0] *= examples;
    // Of the weight only shape and type are read.
    const auto weight = at::empty(shape, d.options());
    const auto gradient = std::get<1>(
        at::convolution_backward(as_channels(d), as_channels(x), weight, c10::nullopt, how_.stride,
                                 how_.padding, how_.dilation, how_.transposed, how_.output_padding,
                                 how_.groups * examples, std::array<bool, 3>{false, true, false}));
    return gradient.unflatten(0, {examples, -1});
  }

  /// The input's patches [b, I, S] and the backprops [b, O, S].
  std::pair<at::Tensor, at::Tensor> unfolded(const at::Tensor& x, const at::Tensor& d) const {
    if (weight_.dim() == 4) {
      return {at::im2col(x, weight_.sizes().slice(2), how_.dilation, how_.padding, how_.stride),
              d.flatten(2)};
    }
    return {at::im2col(x.unsqueeze(2), {1, weight_.size(2)}, {1, how_.dilation[0]},
                       {0, how_.padding[0]}, {1, how_.stride[0]}),
            d};
  }

  /// Forms g_i a tile of examples at a time.
  template <typename Form>
  NormsAndSum in_tiles(const at::Tensor& x, const at::Tensor& d, int64_t tile,
                       const Form& form) const {
    std::vector<at::Tensor> norms;
    at::Tensor sum;
    for (int64_t begin = 0; begin < x.size(0); begin += tile) {
      const auto end = std::min(begin + tile, x.size(0));
      const kernels::Formed formed = form(x.slice(0, begin, end), d.slice(0, begin, end));
      norms.push_back(formed.squared_norms);
      sum = sum.defined() ? sum.add_(formed.sum) : formed.sum;
    }
    return {at::cat(norms), sum.reshape(weight_.sizes()), "conv", ""};
  }

  /// Norms by position Gram matrices, the sum by one plain convolution.
  NormsAndSum by_gram(const at::Tensor& x, const at::Tensor& d, int64_t tile) const {
    std::vector<at::Tensor> norms;
    for (int64_t begin = 0; begin < x.size(0); begin += tile) {
      const auto end = std::min(begin + tile, x.size(0));
      const auto [a, b] = unfolded(x.slice(0, begin, end), d.slice(0, begin, end));
      norms.push_back(kernels::gram_squared_norms(a.transpose(1, 2), b.transpose(1, 2)));
    }
    const auto sum = std::get<1>(
        at::convolution_backward(d, x, weight_.to(d.options()), c10::nullopt, how_.stride,
                                 how_.padding, how_.dilation, how_.transposed, how_.output_padding,
                                 how_.groups, std::array<bool, 3>{false, true, false}));
    return {at::cat(norms), sum, "conv", ""};
  }

  std::string description() const {
    std::ostringstream text;
    text << (how_.transposed ? "transposed convolution " : "convolution ") << weight_.sizes()
         << " stride " << at::IntArrayRef(how_.stride) << " padding "
         << at::IntArrayRef(how_.padding) << " dilation " << at::IntArrayRef(how_.dilation)
         << " groups " << how_.groups;
    return text.str();
  }

  at::Tensor weight_, bias_;
  Convolution how_;
};

}  // namespace

Use convolution(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                const Convolution& convolution) {
  return std::make_unique<ConvolutionUse>(input, weight, bias, convolution);
}

}  // namespace gradist::rules
