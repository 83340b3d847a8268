#include "models/resnet.h"

#include "models/image_network.h"

#include <functional>
#include <vector>

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

/// What a block is made of: adds its layers to `way`, planes and stride given.
using Body = void (*)(Sequence& way, int64_t planes, int64_t stride);

/// How many planes a block of so many makes.
constexpr int64_t kBasicExpansion = 1, kBottleneckExpansion = 4;

/// Two 3 x 3 convolutions.
void basic(Sequence& way, int64_t planes, int64_t stride) {
  way.convolution(planes, {.kernel = 3, .stride = stride, .padding = 1}).normalize().activate();
  way.convolution(planes, {.kernel = 3, .padding = 1}).normalize();
}

/// 1 x 1 to `planes`, 3 x 3, and 1 x 1 to four times as many.
void bottleneck(Sequence& way, int64_t planes, int64_t stride) {
  way.convolution(planes, {.kernel = 1}).normalize().activate();
  way.convolution(planes, {.kernel = 3, .stride = stride, .padding = 1}).normalize().activate();
  way.convolution(kBottleneckExpansion * planes, {.kernel = 1}).normalize();
}

/// Blocks of one kind in stages; in each stage after the first the planes double and the sides
/// halve.
struct Stages {
  Body body;
  int64_t expansion;
  int64_t planes;  ///< of the first stage
  std::vector<int64_t> blocks;
};

void add_stages(Sequence& layers, const NetworkPlan& plan, const Stages& stages) {
  int64_t planes = stages.planes;
  for (size_t stage = 0; stage < stages.blocks.size(); ++stage, planes *= 2) {
    for (int64_t b = 0; b < stages.blocks[stage]; ++b) {
      const ImageShape input = layers.shape();
      const int64_t width = plan.scaled(planes), stride = stage > 0 && b == 0 ? 2 : 1;
      const auto body = [&](Sequence& way) { stages.body(way, width, stride); };
      const auto shortcut = [&](Sequence& way) {
        const int64_t outputs = stages.expansion * width;
        if (stride > 1 || outputs != input.channels) {
          way.convolution(outputs, {.stride = stride}).normalize();
        }
      };
      const auto block = std::make_shared<ResidualBlock>(plan, input, body, shortcut);
      layers.add("block", block, block->output());
    }
  }
  layers.mean().linear(plan.outputs);
}

/// For small images: a 3 x 3 convolution before the blocks.
std::shared_ptr<Network> make_small(const NetworkPlan& plan, const Stages& stages) {
  return std::make_shared<ImageNetwork>(plan, [&](Sequence& layers) {
    layers.convolution(plan.scaled(stages.planes), {.kernel = 3, .padding = 1});
    layers.normalize().activate();
    add_stages(layers, plan, stages);
  });
}

/// For ImageNet: 7 x 7 with stride 2 and max pooling before the blocks.
std::shared_ptr<Network> make_large(const NetworkPlan& plan, const Stages& stages) {
  return std::make_shared<ImageNetwork>(plan, [&](Sequence& layers) {
    layers.convolution(plan.scaled(stages.planes), {.kernel = 7, .stride = 2, .padding = 3});
    layers.normalize().activate().max_pool({.kernel = 3, .stride = 2, .padding = 1});
    add_stages(layers, plan, stages);
  });
}

const Stages kResnet18 = {basic, kBasicExpansion, 64, {2, 2, 2, 2}};
const Stages kResnet50 = {bottleneck, kBottleneckExpansion, 64, {3, 4, 6, 3}};
const Stages kResnet101 = {bottleneck, kBottleneckExpansion, 64, {3, 4, 23, 3}};

}  // namespace

std::shared_ptr<Network> make_cifar_resnet(const NetworkPlan& plan, int64_t blocks) {
  return make_small(plan, {basic, kBasicExpansion, 16, {blocks, blocks, blocks}});
}

std::shared_ptr<Network> make_resnet18_cifar(const NetworkPlan& plan) {
  return make_small(plan, kResnet18);
}

std::shared_ptr<Network> make_resnet101_cifar(const NetworkPlan& plan) {
  return make_small(plan, kResnet101);
}

std::shared_ptr<Network> make_resnet18(const NetworkPlan& plan) {
  return make_large(plan, kResnet18);
}

std::shared_ptr<Network> make_resnet50(const NetworkPlan& plan) {
  return make_large(plan, kResnet50);
}

std::shared_ptr<Network> make_resnet101(const NetworkPlan& plan) {
  return make_large(plan, kResnet101);
}

}  // namespace gradist
