#pragma once

#include "models/network_plan.h"

#include <memory>

namespace gradist {

enum class Pooling { kMax, kAverage };

/// LeNet-5 [LeCun98]: convolutions 5 x 5 to 6 and 16 planes, each followed by 2 x 2 pooling, then
/// linear layers to 120, 84 and the outputs. Every layer but the last is followed by batch norm, if
/// the options ask for it, and their activation. 62,006 parameters on CIFAR-10 (62,436 with batch
/// norm), 61,706 on MNIST. Images smaller than 32 x 32 are
/// padded by two pixels on each side.
std::shared_ptr<Network> make_lenet5(const NetworkPlan& plan, Pooling pooling);

}  // namespace gradist
