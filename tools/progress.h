#pragma once

#include "rf/sweep.h"
#include "trajectory/observer.h"

#include <chrono>
#include <iosfwd>
#include <string>

namespace gradist {

/// Progress in plain lines: what runs, then every few seconds how far it is and how long it will
/// take.
class PlainProgress final : public Observer {
 public:
  explicit PlainProgress(std::ostream& stream);

  void begin(const RunInfo& info) override;
  void initialised(const InitialisationStep& step) override;
  void refreshed(const RefreshEvent& event) override;
  void logged(const TrajectoryStep& step) override;
  void progressed(int64_t iteration, int64_t total) override;

 private:
  using Clock = std::chrono::steady_clock;

  /// Whether a line is due; then the next one is due a few seconds from now.
  bool due();

  std::ostream& stream_;
  Clock::time_point start_, shown_;
  double train_loss_ = kUndefined;
};

/// The same for a sweep: how many models are done, and how long the rest will take.
class PlainSweepProgress final : public rf::SweepObserver {
 public:
  PlainSweepProgress(std::ostream& stream, std::string out);

  void begin(const rf::SweepStatus& status) override;
  void progressed(const rf::SweepStatus& status) override;

 private:
  std::ostream& stream_;
  std::string out_;
  std::chrono::steady_clock::time_point shown_;
};

/// What a run is, in one line: "mlp 64-128-10 (9,610 parameters) on digits (3,823 examples), 1
/// thread, trace in trace.h5".
std::string describe(const RunInfo& info);

}  // namespace gradist
