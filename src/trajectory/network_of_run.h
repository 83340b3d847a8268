#pragma once

#include "data/dataset.h"
#include "models/network_source.h"
#include "trajectory/run_options.h"

#include <memory>

namespace gradist {

/// The network that a run begins with, at its initial parameters, and the training set `train` it
/// is measured on: on the options' device, in this floating-point type. All randomness comes from
/// the stream of initialisation.
std::unique_ptr<NetworkSource> network_of_run(const RunOptions& options, const Dataset& train,
                                              at::ScalarType type = at::kFloat);

}  // namespace gradist
