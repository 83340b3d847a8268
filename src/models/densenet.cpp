#include "models/densenet.h"

#include "models/image_network.h"

#include <ATen/ATen.h>

#include <vector>

namespace gradist {
namespace {

/// x and what the layer makes of it, side by side.
class DenseLayer final : public Layer {
 public:
  DenseLayer(const NetworkPlan& plan, const ImageShape& input, int64_t growth)
      : layers_(*this, plan, input) {
    layers_.normalize().activate().convolution(4 * growth, {.kernel = 1});
    layers_.normalize().activate().convolution(growth, {.kernel = 3, .padding = 1});
  }

  at::Tensor forward(const at::Tensor& input, Tape* tape) override {
    return at::cat({input, layers_.forward(input, tape)}, 1);
  }
  int64_t multiplications() const override { return layers_.multiplications(); }

 private:
  Sequence layers_;
};

/// The blocks, with what is between them and after the last.
void add_blocks(Sequence& layers, const NetworkPlan& plan, const std::vector<int>& blocks,
                int64_t growth) {
  for (size_t block = 0; block < blocks.size(); ++block) {
    if (block > 0) {
      layers.normalize().activate().convolution(layers.shape().channels / 2, {.kernel = 1});
      layers.average_pool({.kernel = 2, .stride = 2});
    }
    for (int layer = 0; layer < blocks[block]; ++layer) {
      ImageShape shape = layers.shape();
      const auto dense = std::make_shared<DenseLayer>(plan, shape, growth);
      shape.channels += growth;
      layers.add("dense", dense, shape);
    }
  }
  layers.normalize().activate().mean().linear(plan.outputs);
}

}  // namespace

std::shared_ptr<Network> make_densenet40(const NetworkPlan& plan) {
  return std::make_shared<ImageNetwork>(plan, [&](Sequence& layers) {
    const int64_t growth = plan.scaled(36);
    layers.convolution(2 * growth, {.kernel = 3, .padding = 1});
    add_blocks(layers, plan, {6, 6, 6}, growth);
  });
}

std::shared_ptr<Network> make_densenet169(const NetworkPlan& plan) {
  return std::make_shared<ImageNetwork>(plan, [&](Sequence& layers) {
    const int64_t growth = plan.scaled(32);
    layers.convolution(2 * growth, {.kernel = 7, .stride = 2, .padding = 3}).normalize().activate();
    layers.max_pool({.kernel = 3, .stride = 2, .padding = 1});
    add_blocks(layers, plan, {6, 12, 32, 32}, growth);
  });
}

}  // namespace gradist
