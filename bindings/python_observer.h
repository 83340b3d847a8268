#pragma once

#include "bind.h"

#include "trajectory/observer.h"

#include <chrono>
#include <exception>

namespace gradist::python {

/// Shows a run to Python: a progress object (or None) with
///
///   begin(total)   logged(iteration, train_loss)   progressed(iteration)   end()
///
/// and Ctrl-C to the run, which then ends cleanly. An exception of Python's, KeyboardInterrupt
/// among them, is kept and thrown by `rethrow` when the run has ended. Takes the GIL by itself, a
/// few times a second.
class PythonObserver final : public Observer {
 public:
  explicit PythonObserver(py::object progress);

  void begin(const RunInfo& info) override;
  void logged(const TrajectoryStep& step) override;
  void progressed(int64_t iteration, int64_t total) override;
  bool wants_stop() override;
  void end() override;

  /// Throws what Python threw meanwhile, if anything.
  void rethrow() const;

 private:
  using Clock = std::chrono::steady_clock;

  /// Runs `call` under the GIL unless Python has thrown before.
  template <class Call>
  void in_python(const Call& call);

  py::object progress_;
  Clock::time_point shown_, asked_;
  std::exception_ptr thrown_;
};

}  // namespace gradist::python
