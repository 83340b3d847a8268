#pragma once

#include "trajectory/trajectory_step.h"

#include <cstdint>

namespace gradist {

/// Watches a run: trace writer, progress lines, progress bars. Called in the order below, never
/// from two threads.
class Observer {
 public:
  virtual ~Observer() = default;

  /// Once, when options, data and network have passed their checks.
  virtual void begin(const RunInfo& /*info*/) {}

  /// With `init = metainit`: before each of its steps and after the last one.
  virtual void initialised(const InitialisationStep& /*step*/) {}

  /// After each estimator's refresh; at iteration 0 before the first log point.
  virtual void refreshed(const RefreshEvent& /*event*/) {}

  /// At each log point.
  virtual void logged(const TrajectoryStep& /*step*/) {}

  /// At each iteration of the intervals that `drift-every` names.
  virtual void drifted(const DriftStep& /*step*/) {}

  /// After each step: `iteration` of `total` are done.
  virtual void progressed(int64_t /*iteration*/, int64_t /*total*/) {}

  /// Asked after each step and inside long passes; true ends the run there, cleanly.
  virtual bool wants_stop() { return false; }

  /// Once, when the run is complete or was stopped; not after an error.
  virtual void end() {}
};

}  // namespace gradist
