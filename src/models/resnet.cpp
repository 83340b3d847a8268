#include "models/resnet.h"

#include "models/image_network.h"

#include <functional>
#include <utility>

namespace gradist {
namespace {

class ResidualBlock final : public Layer {
 public:
  using Build = std::function<void(Sequence&)>;

  /// `body` and `shortcut` make the layers of either way, which must lead to the same shape.
  ResidualBlock(const NetworkPlan& plan, const ImageShape& input, const Build& body,
                const Build& shortcut)
      : body_(*this, plan, input),
        shortcut_(*this, plan, input, "shortcut_"),
        activation_(activation(plan.options.activation)) {
    body(body_);
    shortcut(shortcut_);
  }

  at::Tensor forward(const at::Tensor& input, Tape* tape) override {
    return activation_(body_.forward(input, tape) + shortcut_.forward(input, tape));
  }
  int64_t multiplications() const override {
    return body_.multiplications() + shortcut_.multiplications();
  }
  const ImageShape& output() const { return body_.shape(); }

 private:
  Sequence body_, shortcut_;
  Activation activation_;
};

/// Two 3 x 3 convolutions.
void add_basic_block(Sequence& layers, const NetworkPlan& plan, int64_t planes, int64_t stride) {
  const ImageShape input = layers.shape();
  const auto body = [&](Sequence& way) {
    way.convolution(planes, {.kernel = 3, .stride = stride, .padding = 1}).activate();
    way.convolution(planes, {.kernel = 3, .padding = 1});
  };
  const auto shortcut = [&](Sequence& way) {
    if (stride > 1 || planes != input.channels) way.convolution(planes, {.stride = stride});
  };
  const auto block = std::make_shared<ResidualBlock>(plan, input, body, shortcut);
  layers.add("block", block, block->output());
}

}  // namespace

std::shared_ptr<Network> make_cifar_resnet(const NetworkPlan& plan, int64_t blocks) {
  return std::make_shared<ImageNetwork>(plan, [&](Sequence& layers) {
    layers.convolution(plan.scaled(16), {.kernel = 3, .padding = 1}).activate();
    for (auto [planes, stride] : {std::pair(16, 1), {32, 2}, {64, 2}}) {
      for (int64_t block = 0; block < blocks; ++block) {
        add_basic_block(layers, plan, plan.scaled(planes), block == 0 ? stride : 1);
      }
    }
    layers.mean().linear(plan.outputs);
  });
}

}  // namespace gradist
