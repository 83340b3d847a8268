#include "models/sequence.h"

#include "models/batch_norm_layer.h"
#include "models/conv_layer.h"
#include "models/dropout_layer.h"
#include "models/linear_layer.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <utility>

namespace gradist {

Sequence::Sequence(torch::nn::Module& owner, const NetworkPlan& plan, const ImageShape& input,
                   std::string prefix)
    : owner_(owner), plan_(plan), shape_(input), prefix_(std::move(prefix)) {}

ImageShape Sequence::under(const Window& window) const {
  const ImageShape output = window.over(shape_);
  TORCH_CHECK_VALUE(output.positions() > 0, "model = ", plan_.options.model,
                    ", needs larger images than ", plan_.example[1], " x ", plan_.example[2],
                    ": a window of ", window.kernel, " x ", window.kernel, " must fit planes of ",
                    shape_.height, " x ", shape_.width);
  return output;
}

Sequence& Sequence::add(const std::string& kind, const std::shared_ptr<Layer>& layer,
                        const ImageShape& output) {
  owner_.register_module(prefix_ + kind + std::to_string(++count_[kind]), layer);
  layers_.push_back(layer);
  steps_.emplace_back(
      [layer = layer.get()](const at::Tensor& x, Tape* tape) { return layer->forward(x, tape); });
  shape_ = output;
  return *this;
}

Sequence& Sequence::convolution(int64_t planes, const Window& window) {
  const auto [channels, height, width] = under(window);
  return add(
      "conv",
      std::make_shared<ConvLayer>(shape_, planes, window, !has_batch_norm(), plan_.generator),
      {planes, height, width});
}

Sequence& Sequence::max_pool(const Window& window) {
  shape_ = under(window);
  steps_.emplace_back([window](const at::Tensor& x, Tape*) {
    return at::max_pool2d(x, window.kernel, window.stride, window.padding);
  });
  return *this;
}

Sequence& Sequence::average_pool(const Window& window) {
  shape_ = under(window);
  steps_.emplace_back([window](const at::Tensor& x, Tape*) {
    return at::avg_pool2d(x, window.kernel, window.stride, window.padding);
  });
  return *this;
}

Sequence& Sequence::normalize() {
  return has_batch_norm() ? add("norm", std::make_shared<BatchNormLayer>(shape_), shape_) : *this;
}

Sequence& Sequence::mean() {
  shape_ = {shape_.channels, 1, 1};
  steps_.emplace_back([](const at::Tensor& x, Tape*) { return x.mean({2, 3}); });
  return *this;
}

Sequence& Sequence::flatten() {
  shape_ = {shape_.numbers(), 1, 1};
  steps_.emplace_back([](const at::Tensor& x, Tape*) { return x.flatten(1); });
  return *this;
}

Sequence& Sequence::linear(int64_t outputs) {
  const double dropout = plan_.options.dropout;
  if (dropout > 0)
    add("dropout", std::make_shared<DropoutLayer>(dropout, shape_.numbers()), shape_);
  return add("linear", std::make_shared<LinearLayer>(shape_.channels, outputs, plan_.generator),
             {outputs, 1, 1});
}

Sequence& Sequence::activate() {
  steps_.emplace_back(
      [f = activation(plan_.options.activation)](const at::Tensor& x, Tape*) { return f(x); });
  return *this;
}

at::Tensor Sequence::forward(const at::Tensor& input, Tape* tape) const {
  at::Tensor values = input;
  for (const Step& step : steps_) values = step(values, tape);
  return values;
}

int64_t Sequence::multiplications() const {
  int64_t sum = 0;
  for (const auto& layer : layers_) sum += layer->multiplications();
  return sum;
}

}  // namespace gradist
