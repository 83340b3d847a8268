#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gradist {

/// What `gradist info` says of one estimator.
struct EstimatorSummary {
  std::string name;
  double average_variance = 0;  ///< median over the log points, as the next three
  double ratio = 0;             ///< of its average variance to that of sg-b; NaN without sg-b
  double normalized_variance = 0;
  double noise_to_signal = 0;
  int64_t gradient_evaluations = 0;  ///< spent on measuring, in all
  int64_t refreshes = 0;
};

/// A trace in a page.
struct TraceSummary {
  std::string gradist_version;
  std::string config;  ///< TOML
  int64_t schema_version = 0;
  int64_t parameters = 0;
  int64_t examples = 0;
  int64_t batch_size = 0;
  int64_t log_points = 0;
  int64_t iteration = 0;  ///< of the last log point
  double train_loss = 0, train_accuracy = 0, test_loss = 0, test_accuracy = 0,
         seconds = 0;  ///< at the last log point
  std::vector<EstimatorSummary> estimators;
};

/// Reads a trace of schema 1, also one that is still being written or whose writer was killed; the
/// file is not changed.
TraceSummary read_trace_summary(const std::string& path);

}  // namespace gradist
