#include "models/metainit.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <vector>

namespace gradist {
namespace {

/// d of / d by, zeros where there is no way from one to the other.
ParameterList derivatives(const at::Tensor& of, const ParameterList& by, bool differentiable) {
  ParameterList found =
      torch::autograd::grad({of}, by, {}, /*retain_graph=*/differentiable,
                            /*create_graph=*/differentiable, /*allow_unused=*/true);
  for (size_t l = 0; l < found.size(); ++l) {
    if (!found[l].defined()) found[l] = at::zeros_like(by[l]);
  }
  return found;
}

/// H g, as the gradient of ||g||^2 / 2, so that its own derivative is complete.
ParameterList hessian_times(const ParameterList& gradient, const ParameterList& parameters) {
  at::Tensor half_square = at::zeros({}, gradient.front().options());
  for (const at::Tensor& g : gradient) half_square = half_square + g.square().sum() / 2;
  return derivatives(half_square, parameters, /*differentiable=*/true);
}

at::Tensor noise_loss(const NetworkSource& source, int64_t batch_size, at::Generator& generator) {
  const Dataset& data = source.data();
  std::vector<int64_t> sizes = data.example_shape().vec();
  sizes.insert(sizes.begin(), batch_size);
  const at::Tensor inputs = at::randn(sizes, generator, at::kFloat);
  const at::Tensor targets = data.classes > 0
                                 ? at::randint(data.classes, {batch_size}, generator, at::kLong)
                                 : at::randn({batch_size}, generator, at::kFloat);
  const at::Tensor outputs = source.network().forward(
      inputs.to(source.parameters().front().options().requires_grad(false)));
  return source.losses(outputs, targets.to(data.targets.options())).mean();
}

/// A weight whose norm is fitted.
class ScaledWeight {
 public:
  explicit ScaledWeight(at::Tensor weight) : weight_(std::move(weight)) {}

  const at::Tensor& weight() const { return weight_; }

  /// `slope` is dQ/dW, whose product with W has the sign of dQ/dn.
  void step(const at::Tensor& slope, const MetaInitOptions& options) {
    const c10::NoGradGuard no_grad;
    const double norm = weight_.to(at::kDouble).norm().item<double>();
    const double along = (weight_.to(at::kDouble) * slope.to(at::kDouble)).sum().item<double>();
    if (norm == 0) return;  // has no direction to scale
    const double sign = along > 0 ? 1 : along < 0 ? -1 : 0;
    velocity_ = options.momentum * velocity_ - options.lr * sign;
    if (norm + velocity_ > 0) {
      weight_.mul_((norm + velocity_) / norm);
    } else {
      weight_.mul_(0.5);
      velocity_ = 0;
    }
  }

 private:
  at::Tensor weight_;
  double velocity_ = 0;
};

}  // namespace

at::Tensor gradient_quotient(const at::Tensor& loss, const ParameterList& parameters,
                             double epsilon) {
  const c10::AutoGradMode with_gradients(true);
  const ParameterList gradient = derivatives(loss, parameters, /*differentiable=*/true);
  const ParameterList change = hessian_times(gradient, parameters);
  at::Tensor sum = at::zeros({}, loss.options());
  int64_t count = 0;
  for (size_t l = 0; l < gradient.size(); ++l) {
    const at::Tensor& g = gradient[l];
    const at::Tensor damping = at::full_like(g, epsilon).masked_fill(g.detach().lt(0), -epsilon);
    sum = sum + ((g - change[l]) / (g + damping) - 1).abs().sum();
    count += g.numel();
  }
  return sum / static_cast<double>(count);
}

void metainit(const NetworkSource& source, const MetaInitOptions& options, at::Generator& generator,
              const MetaInitWatcher& watch) {
  TORCH_CHECK_VALUE(!source.data().sparse(),
                    "init = metainit, must be torch or he for sparse data");
  std::vector<ScaledWeight> scaled;
  ParameterList weights;
  for (const at::Tensor& parameter : source.parameters()) {
    if (parameter.dim() < 2) continue;
    scaled.emplace_back(parameter);
    weights.push_back(parameter);
  }
  const c10::AutoGradMode with_gradients(true);
  for (int64_t step = 0;; ++step) {
    const at::Tensor quotient = gradient_quotient(noise_loss(source, options.batch_size, generator),
                                                  source.parameters(), options.epsilon);
    const auto value = quotient.item<double>();
    TORCH_CHECK_VALUE(std::isfinite(value), "init = metainit, must be torch or he for ",
                      source.network().describe(), ": the gradient quotient is ", value, " after ",
                      step, " steps");
    if (watch) watch(step, value);
    if (step == options.steps) return;
    const ParameterList slopes = derivatives(quotient, weights, /*differentiable=*/false);
    for (size_t l = 0; l < scaled.size(); ++l) scaled[l].step(slopes[l], options);
  }
}

}  // namespace gradist
