#include "gradients/kernels.h"
#include "gradients/layer_rules.h"

#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/native_group_norm.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/rsqrt.h>

#include <functional>
#include <numeric>
#include <utility>

namespace gradist::rules {
namespace {

int64_t product(at::IntArrayRef sizes) {
  return std::accumulate(sizes.begin(), sizes.end(), int64_t{1}, std::multiplies<>());
}

std::optional<at::Tensor> optional(const at::Tensor& tensor) {
  return tensor.defined() ? std::optional(tensor) : std::nullopt;
}

/// y = xhat * w + b with xhat = (x - mean) * rstd. Every such layer differs only in where mean and
/// rstd come from and in which dimensions w spans.
class NormUse : public LayerUse {
 public:
  NormUse(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
          std::string name, std::string method)
      : LayerUse(input, std::move(name)),
        weight_(weight.defined() ? weight.detach() : weight),
        bias_(bias.defined() ? bias.detach() : bias),
        method_(std::move(method)) {
    add_parameter(weight, Role::kWeight);
    add_parameter(bias, Role::kBias);
  }

  /// Both parameters come from one pass over memory: the second one's are kept until asked for.
  FactoredGradients gradients(const Parameter& parameter,
                              const at::Tensor& backprops) const override {
    const bool first = parameters().size() < 2 || !kept_.scale.defined();
    const auto found = first ? scale_and_shift(backprops) : kept_;
    kept_ = first && parameters().size() == 2 ? found : kernels::ScaleShift{};
    return parameter.role == Role::kWeight
               ? FactoredGradients::from_dense(found.scale, parameter.shape(), method_)
               : FactoredGradients::from_dense(found.shift, parameter.shape(), "bias");
  }

 protected:
  virtual kernels::ScaleShift scale_and_shift(const at::Tensor& backprops) const = 0;

  at::Tensor weight_, bias_, mean_, rstd_;

 private:
  std::string method_;
  mutable kernels::ScaleShift kept_;
};

/// Normalised over the last dimensions: statistics [B, ...], parameters of the last dimensions.
class RowNormUse final : public NormUse {
 public:
  RowNormUse(const at::Tensor& input, std::vector<int64_t> shape, const at::Tensor& weight,
             const at::Tensor& bias, double epsilon, bool centered)
      : NormUse(input, weight, bias, centered ? "a LayerNorm" : "an RMSNorm",
                centered ? "layer_norm" : "rms_norm"),
        shape_(std::move(shape)),
        epsilon_(epsilon),
        centered_(centered) {}

  at::Tensor forward() override {
    if (!centered_) {
      return at::rms_norm(take_input(), shape_, optional(weight_), epsilon_);
    }
    if (at::autocast::is_autocast_enabled(input().device().type())) {
      return at::layer_norm(take_input(), shape_, optional(weight_), optional(bias_), epsilon_);
    }
    auto [output, mean, rstd] =
        at::native_layer_norm(take_input(), shape_, optional(weight_), optional(bias_), epsilon_);
    mean_ = mean.detach();
    rstd_ = rstd.detach();
    return output;
  }

 protected:
  kernels::ScaleShift scale_and_shift(const at::Tensor& backprops) const override {
    const auto channels = product(shape_);
    const auto rows = [&](const at::Tensor& values) {
      return values.reshape({values.size(0), -1, channels});
    };
    const auto d = rows(by_example(backprops));
    const auto x = rows(by_example(input())).to(d.scalar_type());
    const auto [mean, rstd] = statistics(x);
    return kernels::row_norm_gradients(x, d, mean, rstd);
  }

 private:
  /// Mean and 1 / sqrt(var + eps) of the rows x [B, S, C], [B, S] each; those of the forward pass
  /// where it kept them. No mean for an RMSNorm.
  std::pair<at::Tensor, at::Tensor> statistics(const at::Tensor& x) const {
    if (mean_.defined()) {
      const auto of = [&](const at::Tensor& values) {
        return by_example(values).reshape({x.size(0), x.size(1)});
      };
      return {of(mean_), of(rstd_)};
    }
    const auto mean = centered_ ? x.mean(2, /*keepdim=*/true) : at::Tensor();
    const auto squares = (centered_ ? x - mean : x).square().mean(2);
    return {centered_ ? mean.squeeze(2) : mean, at::rsqrt(squares + epsilon_)};
  }

  std::vector<int64_t> shape_;
  double epsilon_;
  bool centered_;
};

/// Normalised over space: statistics [B or 1, C], parameters [C].
class ChannelNormUse : public NormUse {
 public:
  using NormUse::NormUse;

 protected:
  /// [B, C, ...] -> [B, C, S].
  static at::Tensor with_positions(const at::Tensor& values) {
    return values.reshape({values.size(0), values.size(1), -1});
  }

  kernels::ScaleShift scale_and_shift(const at::Tensor& backprops) const override {
    const auto d = with_positions(by_example(backprops));
    const auto x = with_positions(by_example(input())).to(d.scalar_type());
    return kernels::channel_norm_gradients(x, d, mean_, rstd_);
  }
};

class GroupNormUse final : public ChannelNormUse {
 public:
  GroupNormUse(const at::Tensor& input, int64_t groups, const at::Tensor& weight,
               const at::Tensor& bias, double epsilon)
      : ChannelNormUse(input, weight, bias, "a GroupNorm", "group_norm"),
        groups_(groups),
        epsilon_(epsilon) {}

  at::Tensor forward() override {
    const auto x = take_input().contiguous();
    const auto examples = x.size(0), channels = x.size(1);
    auto [output, mean, rstd] = at::native_group_norm(
        x, optional(weight_), optional(bias_), examples, channels,
        x.numel() / std::max<int64_t>(1, examples * channels), groups_, epsilon_);
    mean_ = mean.detach().repeat_interleave(channels / groups_, 1);
    rstd_ = rstd.detach().repeat_interleave(channels / groups_, 1);
    return output;
  }

 private:
  int64_t groups_;
  double epsilon_;
};

class BatchNormUse final : public ChannelNormUse {
 public:
  BatchNormUse(const at::Tensor& input, const at::Tensor& mean, const at::Tensor& variance,
               const at::Tensor& weight, const at::Tensor& bias, double epsilon)
      : ChannelNormUse(input, weight, bias, "a BatchNorm", "batch_norm"),
        running_mean_(mean),
        running_variance_(variance),
        epsilon_(epsilon) {
    mean_ = mean.detach().clone().unsqueeze(0);
    rstd_ = at::rsqrt(variance.detach() + epsilon).unsqueeze(0);
  }

  at::Tensor forward() override {
    return at::batch_norm(take_input(), optional(weight_), optional(bias_), running_mean_,
                          running_variance_, /*training=*/false, /*momentum=*/0, epsilon_,
                          /*cudnn_enabled=*/true);
  }

 private:
  at::Tensor running_mean_, running_variance_;
  double epsilon_;
};

}  // namespace

Use layer_norm(const at::Tensor& input, std::vector<int64_t> shape, const at::Tensor& weight,
               const at::Tensor& bias, double epsilon) {
  return std::make_unique<RowNormUse>(input, std::move(shape), weight, bias, epsilon, true);
}

Use rms_norm(const at::Tensor& input, std::vector<int64_t> shape, const at::Tensor& weight,
             double epsilon) {
  return std::make_unique<RowNormUse>(input, std::move(shape), weight, at::Tensor(), epsilon,
                                      false);
}

Use group_norm(const at::Tensor& input, int64_t groups, const at::Tensor& weight,
               const at::Tensor& bias, double epsilon) {
  return std::make_unique<GroupNormUse>(input, groups, weight, bias, epsilon);
}

Use batch_norm(const at::Tensor& input, const at::Tensor& mean, const at::Tensor& variance,
               const at::Tensor& weight, const at::Tensor& bias, double epsilon) {
  return std::make_unique<BatchNormUse>(input, mean, variance, weight, bias, epsilon);
}

}  // namespace gradist::rules
