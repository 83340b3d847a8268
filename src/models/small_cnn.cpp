#include "models/small_cnn.h"

#include "models/image_network.h"

namespace gradist {

std::shared_ptr<Network> make_small_cnn(const NetworkPlan& plan) {
  return std::make_shared<ImageNetwork>(plan, [&](Sequence& layers) {
    for (int64_t planes : {32, 64}) {
      layers.convolution(plan.scaled(planes), {.kernel = 5}).normalize().activate();
      layers.max_pool({.kernel = 2, .stride = 2});
    }
    layers.flatten().linear(plan.scaled(2048)).normalize().activate().linear(plan.outputs);
  });
}

}  // namespace gradist
