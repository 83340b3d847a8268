#pragma once

#include "bind.h"

#include "rf/sweep.h"

#include <atomic>
#include <chrono>
#include <exception>
#include <thread>

namespace gradist::python {

/// Shows a sweep to Python as PythonObserver shows a run, `begin(total)`, `progressed(done)` and
/// `end()`. Ctrl-C is looked for in the thread that made it, the only one to which Python tells it.
class PythonSweepObserver final : public rf::SweepObserver {
 public:
  explicit PythonSweepObserver(py::object progress);
  ~PythonSweepObserver() override;
  PythonSweepObserver(const PythonSweepObserver&) = delete;
  PythonSweepObserver& operator=(const PythonSweepObserver&) = delete;

  void begin(const rf::SweepStatus& status) override;
  void progressed(const rf::SweepStatus& status) override;
  bool wants_stop() override;

  /// Throws what Python threw meanwhile, if anything.
  void rethrow() const;

 private:
  using Clock = std::chrono::steady_clock;

  /// Runs `call` under the GIL unless Python has thrown before.
  template <class Call>
  void in_python(const Call& call);

  py::object progress_;
  std::thread::id home_ = std::this_thread::get_id();
  Clock::time_point asked_;
  std::atomic<bool> has_thrown_ = false;
  std::exception_ptr thrown_;
};

}  // namespace gradist::python
