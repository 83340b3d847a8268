#include "python_observer.h"

namespace gradist::python {
namespace {

// Often enough for eyes and fingers, too seldom to cost anything.
constexpr std::chrono::milliseconds kPause(50);

/// Whether `last` is long ago; then it is now.
bool is_due(std::chrono::steady_clock::time_point& last) {
  const auto now = std::chrono::steady_clock::now();
  const bool due = now - last >= kPause;
  last = due ? now : last;
  return due;
}

}  // namespace

PythonProgress::~PythonProgress() {
  const py::gil_scoped_acquire gil;
  thrown_ = nullptr;
  progress_ = py::object();
}

bool PythonProgress::wants_stop() {
  if (std::this_thread::get_id() == home_ && is_due(asked_)) {
    in_python([] {
      if (PyErr_CheckSignals() != 0) {
        throw py::error_already_set();
      }
    });
  }
  return has_thrown_;
}

void PythonProgress::rethrow() const {
  if (thrown_) {
    std::rethrow_exception(thrown_);
  }
}

void PythonObserver::progressed(int64_t iteration, int64_t total) {
  if (iteration == total || is_due(shown_)) {
    python_.tell("progressed", iteration);
  }
}

}  // namespace gradist::python
