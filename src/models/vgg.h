#pragma once

#include "models/network_plan.h"

#include <memory>

namespace gradist {

/// VGG-11 [Simonyan15], configuration A, in the form used on CIFAR: the eight convolutions, then
/// the mean of each plane (32 x 32 images leave one pixel) and one linear layer instead of three;
/// 9,225,610 parameters with ten outputs.
std::shared_ptr<Network> make_vgg11(const NetworkPlan& plan);

}  // namespace gradist
