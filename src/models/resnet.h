#pragma once

#include "models/network_plan.h"

#include <cstdint>
#include <memory>

/// Residual networks [He16], y = act(body(x) + shortcut(x)) a block; the shortcut is a 1 x 1
/// convolution where the shape changes (option B), else x itself. A block has two 3 x 3
/// convolutions, or in a network of 50 layers and more ("bottleneck") 1 x 1, 3 x 3 and 1 x 1 with
/// the stride in the middle. With batch norm each convolution is followed by one.
namespace gradist {

/// The form for CIFAR (section 4.2): 6n + 2 layers, a convolution to 16 planes, then three stages
/// of n blocks of two 3 x 3 convolutions, with 16, 32 and 64 planes. ResNet-8 (n = 1) has 77,706
/// parameters, ResNet-32 (n = 5) 465,674; ResNet-20 (n = 3) of half the width with batch norm
/// 68,786, the "small ResNet" of 69 thousand of [Defazio19].
std::shared_ptr<Network> make_cifar_resnet(const NetworkPlan& plan, int64_t blocks);

/// The form for ImageNet (Table 1): 7 x 7 with stride 2, max pooling, four stages from 64 planes
/// on. With batch norm and a thousand outputs 11,689,512, 25,557,032 and 44,549,160 parameters.
std::shared_ptr<Network> make_resnet18(const NetworkPlan& plan);
std::shared_ptr<Network> make_resnet50(const NetworkPlan& plan);
std::shared_ptr<Network> make_resnet101(const NetworkPlan& plan);

/// The same stages on CIFAR's images, after one 3 x 3 convolution instead.
std::shared_ptr<Network> make_resnet18_cifar(const NetworkPlan& plan);
std::shared_ptr<Network> make_resnet101_cifar(const NetworkPlan& plan);

}  // namespace gradist
