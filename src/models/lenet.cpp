#include "models/lenet.h"

#include "models/image_network.h"

namespace gradist {
namespace {

/// What the network was made for.
constexpr int64_t kSide = 32;

constexpr Window kHalf = {.kernel = 2, .stride = 2};

}  // namespace

std::shared_ptr<Network> make_lenet5(const NetworkPlan& plan, Pooling pooling) {
  const auto pool = [pooling](Sequence& layers) {
    pooling == Pooling::kMax ? layers.max_pool(kHalf) : layers.average_pool(kHalf);
  };
  return std::make_shared<ImageNetwork>(plan, [&](Sequence& layers) {
    const int64_t padding = layers.shape().height < kSide ? 2 : 0;
    layers.convolution(plan.scaled(6), {.kernel = 5, .padding = padding}).normalize().activate();
    pool(layers);
    layers.convolution(plan.scaled(16), {.kernel = 5}).normalize().activate();
    pool(layers);
    layers.flatten();
    for (int64_t width : {120, 84}) layers.linear(plan.scaled(width)).normalize().activate();
    layers.linear(plan.outputs);
  });
}

}  // namespace gradist
