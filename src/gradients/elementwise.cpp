#include "gradients/layer_rules.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/add.h>

#include <utility>

namespace gradist::rules {
namespace {

/// [B, ...] summed over whatever a parameter of this shape is broadcast over: [B, *shape].
at::Tensor sum_to(const at::Tensor& values, const std::vector<int64_t>& shape) {
  const auto kept = static_cast<int64_t>(shape.size());
  // Dimensions of the values before the parameter's own, the examples' apart.
  const auto leading = values.dim() - kept;
  std::vector<int64_t> over;
  for (int64_t k = 1; k < values.dim(); ++k) {
    const auto own = k - leading;
    if (own < 0 || (shape[static_cast<size_t>(own)] == 1 && values.size(k) > 1)) {
      over.push_back(k);
    }
  }
  auto wanted = shape;
  wanted.insert(wanted.begin(), values.size(0));
  return (over.empty() ? values : values.sum(over)).reshape(wanted);
}

class ScaleUse final : public LayerUse {
 public:
  ScaleUse(const at::Tensor& input, const at::Tensor& weight)
      : LayerUse(input, "a scale"), weight_(weight.detach()) {
    add_parameter(weight, Role::kWeight);
  }

  at::Tensor forward() override { return take_input() * weight_; }

  FactoredGradients gradients(const Parameter& parameter,
                              const at::Tensor& backprops) const override {
    const auto shape = parameter.shape();
    const auto products = by_example(backprops) * input_by_example(backprops);
    return FactoredGradients::from_dense(sum_to(products, shape), shape, "scale");
  }

 private:
  at::Tensor weight_;
};

class ShiftUse final : public LayerUse {
 public:
  ShiftUse(const at::Tensor& input, const at::Tensor& bias, double factor)
      : LayerUse(input, "a shift"), bias_(bias.detach()), factor_(factor) {
    add_parameter(bias, Role::kBias);
  }

  at::Tensor forward() override {
    forget_input();
    return at::add(take_input(), bias_, factor_);
  }

  FactoredGradients gradients(const Parameter& parameter,
                              const at::Tensor& backprops) const override {
    const auto shape = parameter.shape();
    const auto d = by_example(backprops);
    return FactoredGradients::from_dense(sum_to(factor_ == 1 ? d : d * factor_, shape), shape,
                                         "shift");
  }

 private:
  at::Tensor bias_;
  double factor_;
};

class ExpandUse final : public LayerUse {
 public:
  ExpandUse(const at::Tensor& parameter, std::vector<int64_t> sizes)
      : LayerUse(parameter.detach(), "an expansion"), sizes_(std::move(sizes)) {
    add_parameter(parameter, Role::kBias);
  }

  bool fits(const BatchLayout& layout) const override {
    return !layout.sequence_first && sizes_.front() == layout.examples;
  }

  /// A tensor of its own, so that it may be changed in place.
  at::Tensor forward() override { return take_input().expand(sizes_).contiguous(); }

  FactoredGradients gradients(const Parameter& parameter,
                              const at::Tensor& backprops) const override {
    const auto shape = parameter.shape();
    return FactoredGradients::from_dense(sum_to(by_example(backprops), shape), shape, "shift");
  }

 private:
  std::vector<int64_t> sizes_;
};

class CustomUse final : public LayerUse {
 public:
  CustomUse(const at::Tensor& output, const std::vector<at::Tensor>& parameters,
            CustomGradients gradients)
      : LayerUse(output, "a custom layer"), of_all_(std::move(gradients)) {
    for (const auto& parameter : parameters) {
      add_parameter(parameter, Role::kWeight);
    }
    forget_input();
  }

  bool fits(const BatchLayout& layout) const override {
    return graph_input().dim() >= 1 && graph_input().size(0) == layout.examples;
  }

  at::Tensor forward() override {
    const auto output = take_input();
    return output.requires_grad() ? output : output.clone();
  }

  FactoredGradients gradients(const Parameter& parameter,
                              const at::Tensor& backprops) const override {
    const auto formed = of_all_(backprops);
    for (size_t p = 0; p < parameters().size(); ++p) {
      if (parameters()[p].tensor.is_same(parameter.tensor)) {
        return FactoredGradients::from_dense(formed[p], parameter.shape(), "custom");
      }
    }
    TORCH_INTERNAL_ASSERT(false, "a parameter of another layer");
  }

 private:
  CustomGradients of_all_;
};

}  // namespace

Use scale(const at::Tensor& input, const at::Tensor& weight) {
  return std::make_unique<ScaleUse>(input, weight);
}

Use shift(const at::Tensor& input, const at::Tensor& bias, double factor) {
  return std::make_unique<ShiftUse>(input, bias, factor);
}

Use expand(const at::Tensor& parameter, std::vector<int64_t> sizes) {
  return std::make_unique<ExpandUse>(parameter, std::move(sizes));
}

Use custom(const at::Tensor& output, const std::vector<at::Tensor>& parameters,
           CustomGradients gradients) {
  return std::make_unique<CustomUse>(output, parameters, std::move(gradients));
}

}  // namespace gradist::rules
