#pragma once

#include "rf/random_features.h"
#include "rf/sweep_options.h"

#include <functional>
#include <string>
#include <vector>

namespace gradist::rf {

/// One trained and measured model: T log points, E estimators. [Faghri20] appendix C.2: maximum and
/// mean are over the last 70 % of the iterations.
struct ModelRecord {
  std::vector<double> train_loss, train_error, test_loss, test_error,
      squared_gradient_norm;  ///< [T]
  std::vector<double> average_variance, normalized_variance, noise_ratio,
      noise_to_signal;  ///< [E, T] row by row
  std::vector<double> max_average_variance, mean_average_variance, max_normalized_variance,
      mean_normalized_variance;  ///< [E]
};

/// A quantity of the record: what file and Python call it, and its axes.
struct SweepColumn {
  const char* name;
  const char* long_name;
  bool by_estimator, by_iteration;
  std::vector<double> ModelRecord::*values;
};

const std::vector<SweepColumn>& sweep_columns();

/// Numbers a column has for one model.
int64_t numbers_in(const SweepColumn& column, const SweepOptions& options);

/// The rows and labels of a model's training set. With duplicates, the first `duplicate_points`
/// rows take turns in round(x N) of the N places; the other places have a row each.
Problem<float> training_set(const SweepOptions& options, const ModelPoint& point,
                            const FeatureSet& features);

/// The test set, its labels by the training set's threshold.
Problem<float> test_set(const SweepOptions& options, const ModelPoint& point,
                        const FeatureSet& features);

/// Trains the readout by minibatch SGD from U(-1/sqrt h, 1/sqrt h) and measures on the way: a
/// refresh at 0, U, 2U, ... before the measurement of its iteration. All random numbers are at
/// addresses of the model's seed. `stop` is asked at each log point, and where it says true Stopped
/// is thrown.
ModelRecord run_model(const SweepOptions& options, const ModelPoint& point,
                      const FeatureSet& features, const std::function<bool()>& stop = {});

}  // namespace gradist::rf
