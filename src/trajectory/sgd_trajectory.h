#pragma once

#include "trajectory/observer.h"
#include "trajectory/run_options.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace gradist {

/// How a run ended.
struct RunResult {
  bool stopped = false;                ///< an observer asked for it
  int64_t iterations = 0;              ///< SGD steps done
  int64_t threads = 0;                 ///< CPU threads used
  double seconds = 0;                  ///< wall time
  std::optional<TrajectoryStep> last;  ///< the last log point
};

/// A trajectory of minibatch SGD, measured on the way:
///
///   v <- momentum v + (1/B) sum_{i in batch} g_i + weight_decay theta,    theta <- theta - lr v
///
/// Batches are drawn without replacement an epoch at a time; the incomplete batch at the end of an
/// epoch is left out. With `drive` the sum is one estimate of that estimator instead, drawn by
/// the training generator: anew at each step, or an epoch at a time as well where the estimator
/// draws uniformly without replacement. At iterations 0, U, 2U, ... the estimators are refreshed,
/// at 0, n, 2n, ... and T they are measured, the refresh first. Data and initialisation, training,
/// and measuring have a generator each, so measuring never moves the trajectory.
class SgdTrajectory {
 public:
  /// Loads the data, makes the network and checks everything: a user's error is thrown here, before
  /// anything is written.
  explicit SgdTrajectory(const RunOptions& options);
  ~SgdTrajectory();
  SgdTrajectory(const SgdTrajectory&) = delete;
  SgdTrajectory& operator=(const SgdTrajectory&) = delete;

  /// What will be run; its options are resolved.
  const RunInfo& info() const;

  /// Runs it, once. The trace goes to the option `out` (nowhere if that is empty); `observers` are
  /// told afterwards.
  RunResult run(const std::vector<Observer*>& observers = {});

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// Makes and runs a trajectory.
RunResult run(const RunOptions& options, const std::vector<Observer*>& observers = {});

}  // namespace gradist
