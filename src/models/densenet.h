#pragma once

#include "models/network_plan.h"

#include <memory>

namespace gradist {

/// Densely connected networks [Huang17], DenseNet-BC: every layer sees the planes of all layers of
/// its block before it and adds `growth` planes, through a 1 x 1 convolution to 4 growth and one of
/// 3 x 3, each after batch norm and activation. Between blocks a 1 x 1 convolution halves the
/// planes and 2 x 2 average pooling the sides.

/// The form for CIFAR with 40 layers and growth 36: a 3 x 3 convolution to 72 planes, then three
/// blocks of six layers. 1,542,682 parameters with batch norm and ten outputs, the paper's 1.5
/// million.
std::shared_ptr<Network> make_densenet40(const NetworkPlan& plan);

/// DenseNet-169 for ImageNet: growth 32, blocks of 6, 12, 32 and 32 layers. 14,149,480 parameters
/// with batch norm and a thousand outputs.
std::shared_ptr<Network> make_densenet169(const NetworkPlan& plan);

}  // namespace gradist
