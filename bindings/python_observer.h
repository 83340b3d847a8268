#pragma once

#include "bind.h"

#include "rf/sweep.h"
#include "trajectory/observer.h"

#include <atomic>
#include <chrono>
#include <exception>
#include <thread>

namespace gradist::python {

/// Long work as Python sees it: a progress object (or None) with
///
///   begin(total)   initialised(step, steps, quotient)   logged(iteration, train_loss)
///   progressed(done)   end()
///
/// and Ctrl-C, which ends the work cleanly. An exception of Python's, KeyboardInterrupt among them,
/// is kept and thrown by `rethrow` when the work has ended. Takes the GIL by itself, a few times a
/// second, from any thread.
class PythonProgress {
 public:
  explicit PythonProgress(py::object progress) : progress_(std::move(progress)) {}
  ~PythonProgress();
  PythonProgress(const PythonProgress&) = delete;
  PythonProgress& operator=(const PythonProgress&) = delete;

  /// Calls a method of the progress object, unless Python has thrown before.
  template <class... Arguments>
  void tell(const char* method, const Arguments&... arguments) {
    in_python([&] {
      if (!progress_.is_none()) {
        progress_.attr(method)(arguments...);
      }
    });
  }

  /// Looks for Ctrl-C in the thread that made this, the only one to which Python tells it.
  bool wants_stop();

  /// Throws what Python threw meanwhile, if anything.
  void rethrow() const;

 private:
  template <class Call>
  void in_python(const Call& call) {
    const py::gil_scoped_acquire gil;
    if (has_thrown_) {
      return;
    }
    try {
      call();
    } catch (const py::error_already_set&) {
      thrown_ = std::current_exception();
      has_thrown_ = true;
    }
  }

  py::object progress_;
  std::thread::id home_ = std::this_thread::get_id();
  std::chrono::steady_clock::time_point asked_;
  std::atomic<bool> has_thrown_ = false;
  std::exception_ptr thrown_;  ///< touched under the GIL only
};

/// Shows a run to Python.
class PythonObserver final : public Observer {
 public:
  explicit PythonObserver(py::object progress) : python_(std::move(progress)) {}

  void begin(const RunInfo& info) override { python_.tell("begin", info.options.iterations); }
  void initialised(const InitialisationStep& step) override {
    python_.tell("initialised", step.step, step.steps, step.quotient);
  }
  void logged(const TrajectoryStep& step) override {
    python_.tell("logged", step.iteration, step.train_loss);
  }
  void progressed(int64_t iteration, int64_t total) override;
  bool wants_stop() override { return python_.wants_stop(); }
  void end() override { python_.tell("end"); }
  void rethrow() const { python_.rethrow(); }

 private:
  PythonProgress python_;
  std::chrono::steady_clock::time_point shown_;
};

/// Shows a sweep to Python.
class PythonSweepObserver final : public rf::SweepObserver {
 public:
  explicit PythonSweepObserver(py::object progress) : python_(std::move(progress)) {}

  void begin(const rf::SweepStatus& status) override { python_.tell("begin", status.total); }
  void progressed(const rf::SweepStatus& status) override {
    python_.tell("progressed", status.done);
  }
  bool wants_stop() override { return python_.wants_stop(); }
  void rethrow() const { python_.rethrow(); }

 private:
  PythonProgress python_;
};

}  // namespace gradist::python
