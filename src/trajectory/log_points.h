#pragma once

#include "trajectory/run_options.h"

#include <cstdint>
#include <vector>

namespace gradist {

/// The iterations at which a run is measured, rising: 0, n, 2n, ... and the last, T. With `log-at`
/// instead, in each `log-at-every`-th interval between refreshes, U long, the points floor(x U)
/// after the refresh, x U < U or the last point that the snapshot serves, U - 1; and T.
std::vector<int64_t> log_points(const RunOptions& options);

/// Whether the drift from the snapshot is followed at an iteration: all but the first of each
/// `drift-every`-th interval between refreshes, for at the snapshot itself there is none.
bool follows_drift(const RunOptions& options, int64_t iteration);

}  // namespace gradist
