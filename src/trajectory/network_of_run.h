#pragma once

#include "data/dataset.h"
#include "models/metainit.h"
#include "models/network_source.h"
#include "trajectory/run_options.h"

#include <memory>

namespace gradist {

/// The network that a run begins with, its parameters as drawn, and the training set `train` it is
/// measured on: on the options' device, in this floating-point type. All randomness comes from the
/// stream of initialisation.
std::unique_ptr<NetworkSource> network_of_run(const RunOptions& options, const Dataset& train,
                                              at::ScalarType type = at::kFloat);

/// MetaInit of those parameters where the options ask for it, else nothing; its noise has a stream
/// of its own.
void scale_initial_weights(const RunOptions& options, const NetworkSource& source,
                           const MetaInitWatcher& watch = {});

}  // namespace gradist
