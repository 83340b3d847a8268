#pragma once

#include "rf/model_run.h"
#include "rf/sweep_file.h"
#include "rf/sweep_options.h"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace gradist::rf {

/// How far a sweep is.
struct SweepStatus {
  int64_t total = 0;  ///< models to be computed here
  int64_t done = 0;
  int64_t there = 0;  ///< models that the file held before
  double seconds = 0;
};

/// Watches a sweep; never called from two threads at once.
class SweepObserver {
 public:
  virtual ~SweepObserver() = default;
  virtual void begin(const SweepStatus& /*status*/) {}
  virtual void progressed(const SweepStatus& /*status*/) {}

  /// Asked several times a second, from any thread; true ends the sweep after nothing more.
  virtual bool wants_stop() { return false; }
};

/// Computes models and hands each record over as it is done, never two at once. Groups with the
/// same features one after another, the models of a group in parallel; the records do not depend on
/// the number of threads. False where `stop` said true.
bool compute_models(const SweepOptions& options, const std::vector<int64_t>& models,
                    const std::function<void(int64_t, ModelRecord)>& take,
                    const std::function<bool()>& stop = {});

struct SweepResult {
  SweepStatus status;
  bool stopped = false;
};

/// Runs a sweep into options.out: all of the grid or a shard, from nothing or from what is there
/// (`resume`).
SweepResult run_sweep(const SweepOptions& options, SweepObserver* observer = nullptr);

/// The file of a sweep, made or taken up (`resume`), and what of the grid or its shard it lacks.
SweepFile open_sweep_file(const SweepOptions& options);
std::vector<int64_t> missing_models(const SweepOptions& options, const SweepFile& file);

/// Puts the sweeps options.merge of one grid together in options.out. Different grids, or two
/// different results for a model, are refused and nothing is written. Returns how many models of
/// the grid are there.
struct MergeResult {
  int64_t models = 0, complete = 0;
};
MergeResult merge_sweeps(const SweepOptions& options);

}  // namespace gradist::rf
