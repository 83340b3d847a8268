#pragma once

#include "models/network_plan.h"

#include <cstdint>
#include <memory>

namespace gradist {

/// Residual networks [He16], y = act(body(x) + shortcut(x)) a block; the shortcut is a 1 x 1
/// convolution where the shape changes (option B), else x itself.

/// The form for CIFAR (section 4.2): 6n + 2 layers, a convolution to 16 planes, then three stages
/// of n blocks of two 3 x 3 convolutions, with 16, 32 and 64 planes. ResNet-8 (n = 1) has 77,706
/// parameters, ResNet-32 (n = 5) 465,674.
std::shared_ptr<Network> make_cifar_resnet(const NetworkPlan& plan, int64_t blocks);

}  // namespace gradist
