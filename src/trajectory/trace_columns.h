#pragma once

#include "trajectory/trajectory_step.h"

#include <vector>

namespace gradist::detail {

/// A series of the trace: one number of a struct at each log point.
template <class Struct>
struct Column {
  const char* name;
  const char* long_name;
  double Struct::*member;
};

/// The real numbers of TrajectoryStep, in /trajectory.
inline const std::vector<Column<TrajectoryStep>>& trajectory_columns() {
  static const std::vector<Column<TrajectoryStep>> columns = {
      {"epoch", "steps so far over steps in an epoch", &TrajectoryStep::epoch},
      {"train_loss", "mean loss over the training set", &TrajectoryStep::train_loss},
      {"train_accuracy", "fraction of the training set classified right",
       &TrajectoryStep::train_accuracy},
      {"test_loss", "mean loss over the test set", &TrajectoryStep::test_loss},
      {"test_accuracy", "fraction of the test set classified right",
       &TrajectoryStep::test_accuracy},
      {"learning_rate", "learning rate of the next step", &TrajectoryStep::learning_rate},
      {"squared_gradient_norm", "||g||^2 of the full gradient",
       &TrajectoryStep::squared_gradient_norm},
      {"distance_to_snapshot", "||theta - theta~||", &TrajectoryStep::distance_to_snapshot},
      {"snapshot_curvature", "||g - g~|| / ||theta - theta~||",
       &TrajectoryStep::snapshot_curvature},
      {"seconds", "wall time since the run began", &TrajectoryStep::seconds},
  };
  return columns;
}

/// The numbers of DriftStep, in /drift.
inline const std::vector<Column<DriftStep>>& drift_columns() {
  static const std::vector<Column<DriftStep>> columns = {
      {"distance", "||theta - theta~||", &DriftStep::distance},
      {"curvature", "||mean of g_i - g~_i over a minibatch|| / ||theta - theta~||",
       &DriftStep::curvature},
  };
  return columns;
}

/// The real numbers of Moments, in /estimators/<name>.
inline const std::vector<Column<Moments>>& moment_columns() {
  static const std::vector<Column<Moments>> columns = {
      {"average_variance", "tr Cov[estimate] / P", &Moments::average_variance},
      {"normalized_variance", "mean over coordinates of Var / E[estimate^2]",
       &Moments::normalized_variance},
      {"noise_ratio", "tr Cov[estimate] / E||estimate||^2", &Moments::noise_ratio},
      {"noise_to_signal", "tr Cov[estimate] / ||g||^2", &Moments::noise_to_signal},
      {"mean_squared_norm", "E||estimate||^2", &Moments::mean_squared_norm},
      {"bias_squared", "||E[estimate] - g||^2", &Moments::bias_squared},
      {"variance_ratio", "tr Cov[estimate] / that of the plain mean of the same draws",
       &Moments::variance_ratio},
      {"mse", "tr Cov[estimate] + bias^2", &Moments::mse},
      {"seconds", "wall time of the passes it came from", &Moments::seconds},
  };
  return columns;
}

/// Further ones where the measurement is itself an estimate.
inline const std::vector<Column<Moments>>& interval_columns() {
  static const std::vector<Column<Moments>> columns = {
      {"ci_low", "lower end of the 95 % interval of average_variance", &Moments::interval_low},
      {"ci_high", "upper end of the 95 % interval of average_variance", &Moments::interval_high},
      {"variance_ratio_low", "lower end of the 95 % interval of variance_ratio",
       &Moments::variance_ratio_low},
      {"variance_ratio_high", "upper end of the 95 % interval of variance_ratio",
       &Moments::variance_ratio_high},
  };
  return columns;
}

}  // namespace gradist::detail
