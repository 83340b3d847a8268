#pragma once

#include "trajectory/observer.h"

#include <memory>
#include <string>

namespace gradist {

/// The version of the layout that TraceWriter writes and read_trace_summary reads.
inline constexpr int64_t kTraceSchemaVersion = 1;

/// Writes a run as HDF5, schema 1 (docs/trace.md): T log points, R refreshes, N examples, K
/// clusters, n clustering steps.
///
/// - / has the attributes schema, schema_version, gradist_version, config (TOML), parameters,
///   examples, batch_size
/// - /trajectory: iteration [T] and a series [T] for each number of TrajectoryStep
/// - /estimators: iteration [T]; <name>/ a series [T] for each number of Moments;
///   <name>/layers/<parameter>/average_variance [T], and variance [T, ...] with `per-coordinate`
/// - /refresh: <name>/iteration [R], gradient_evaluations [R], seconds [R]; for clusters also
///   assignments [R, N] int32, sizes [R, K], scatter [R, K], parameter_scatter [R, L], objective
///   [R, n] padded with NaN
/// - /drift: iteration, since_snapshot and a series for each number of DriftStep, with
/// `drift-every`
/// - /metainit: step [S + 1], quotient [S + 1], with `init = metainit` of S steps
/// - /gradients: squared_norm_quantiles [T, 21] at 0, 5, ..., 100 %; squared_norm_histogram [T, 64]
///   and its edges [65], fixed at 10^-16, 10^-15.5, ..., 10^16, what lies outside counts in the
///   first or last bin; top_percent_share [T], what the largest 1 % carry of the sum. NaN for
///   sampled measurements, which know no single norms. layers/<parameter>/full_gradient [T, ...]
///   with `per-coordinate`
///
/// Every axis has a dimension scale in its own or a parent group, so that h5py, xarray (h5netcdf)
/// and h5dump read all of it. The file is made under a temporary name beside `path` and renamed
/// onto it right before the first log point; a run that fails earlier leaves nothing behind and an
/// existing trace as it was. From then on it can be read while it grows (SWMR); it is flushed at
/// each log point.
class TraceWriter final : public Observer {
 public:
  TraceWriter(std::string path, bool overwrite);
  ~TraceWriter() override;
  TraceWriter(const TraceWriter&) = delete;
  TraceWriter& operator=(const TraceWriter&) = delete;

  void begin(const RunInfo& info) override;
  void initialised(const InitialisationStep& step) override;
  void refreshed(const RefreshEvent& event) override;
  void logged(const TrajectoryStep& step) override;
  void drifted(const DriftStep& step) override;
  void end() override;

 private:
  class File;
  std::string path_;
  bool overwrite_;
  std::unique_ptr<File> file_;
};

}  // namespace gradist
