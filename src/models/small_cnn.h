#pragma once

#include "models/network_plan.h"

#include <memory>

namespace gradist {

/// Convolutions 5 x 5 to 32 and 64 planes, each followed by the activation and 2 x 2 max pooling,
/// then linear layers to 2,048 and the outputs: 2,171,786 parameters on MNIST.
///
/// The "CNN" of [Faghri20]: the paper gives no architecture, only about 37 parameters for each of
/// MNIST's 60,000 examples (appendix C.1); here it is 36.2.
std::shared_ptr<Network> make_small_cnn(const NetworkPlan& plan);

}  // namespace gradist
