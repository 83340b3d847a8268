#include "models/vgg.h"

#include "models/image_network.h"

#include <initializer_list>
#include <vector>

namespace gradist {

std::shared_ptr<Network> make_vgg11(const NetworkPlan& plan) {
  // Planes of the convolutions between one pooling and the next.
  const std::vector<std::vector<int64_t>> stages = {
      {64}, {128}, {256, 256}, {512, 512}, {512, 512}};
  return std::make_shared<ImageNetwork>(plan, [&](Sequence& layers) {
    for (const auto& stage : stages) {
      for (int64_t planes : stage) {
        layers.convolution(plan.scaled(planes), {.kernel = 3, .padding = 1}).normalize().activate();
      }
      layers.max_pool({.kernel = 2, .stride = 2});
    }
    layers.mean().linear(plan.outputs);
  });
}

}  // namespace gradist
