#pragma once

#include "estimators/moments.h"
#include "gc/clustering.h"
#include "trajectory/run_options.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gradist {

/// What a run is, told once before its first step.
struct RunInfo {
  RunOptions options;                        ///< resolved: the number of threads too
  std::string model;                         ///< kind and sizes, "mlp 64-128-10"
  std::vector<std::string> parameter_names;  ///< L
  std::vector<std::vector<int64_t>> parameter_shapes;
  int64_t parameters = 0;  ///< P
  int64_t examples = 0;    ///< N
  int64_t test_examples = 0;
  int64_t log_points = 0;  ///< T measured points, if nothing stops the run
};

/// How far MetaInit is with the initial weights (models/metainit.h).
struct InitialisationStep {
  int64_t step = 0;   ///< done so far, of
  int64_t steps = 0;  ///< so many
  double quotient = kUndefined;
};

/// What a refresh made: snapshot or clusters.
struct RefreshEvent {
  std::string estimator;
  int64_t iteration = 0;
  const Clustering* clustering = nullptr;  ///< null for estimators without; valid during the call
  int64_t gradient_evaluations = 0;        ///< single-example gradients spent
  double seconds = 0;
};

/// How far SGD has come from the last snapshot, at one iteration: [Defazio19] Fig. 3.
struct DriftStep {
  int64_t iteration = 0;
  int64_t since_snapshot = 0;     ///< iterations
  double distance = kUndefined;   ///< ||theta - theta~||
  double curvature = kUndefined;  ///< ||mean_{i in S} (g_i - g~_i)|| / ||theta - theta~||, S a
                                  ///< minibatch from the measuring generator
};

/// Everything an observer gets at a log point. theta~ and g~ are the parameters and the full
/// gradient at the last refresh of svrg; undefined entries are NaN.
struct TrajectoryStep {
  int64_t iteration = 0;
  double epoch = 0;  ///< steps so far over steps in an epoch
  double train_loss = kUndefined;
  double train_accuracy = kUndefined;
  double test_loss = kUndefined;
  double test_accuracy = kUndefined;
  double learning_rate = kUndefined;
  double squared_gradient_norm = kUndefined;  ///< ||g||^2
  double distance_to_snapshot = kUndefined;   ///< ||theta - theta~||
  double snapshot_curvature = kUndefined;     ///< ||g - g~|| / ||theta - theta~||; where examples
                                              ///< do not separate and drift is followed, both by
                                              ///< the minibatches of the snapshot
  uint64_t parameter_hash = 0;  ///< of the parameters' bytes: equal trajectories have equal hashes
  double seconds = 0;           ///< since the run began
  std::vector<std::string> estimators;
  std::vector<Moments> moments;  ///< one an estimator
  ParameterList full_gradient;   ///< g or its estimate, float64; with `per-coordinate` only
  at::Tensor squared_norms;      ///< ||g_i||^2 of the examples seen, float64; undefined for sampled
                                 ///< measurements
};

}  // namespace gradist
