#include "python_observer.h"

#include <utility>

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

PythonObserver::PythonObserver(py::object progress) : progress_(std::move(progress)) {}

template <class Call>
void PythonObserver::in_python(const Call& call) {
  if (thrown_) {
    return;
  }
  const py::gil_scoped_acquire gil;
  try {
    call();
  } catch (const py::error_already_set&) {
    thrown_ = std::current_exception();
  }
}

void PythonObserver::begin(const RunInfo& info) {
  in_python([&] {
    if (!progress_.is_none()) {
      progress_.attr("begin")(info.options.iterations);
    }
  });
}

void PythonObserver::logged(const TrajectoryStep& step) {
  in_python([&] {
    if (!progress_.is_none()) {
      progress_.attr("logged")(step.iteration, step.train_loss);
    }
  });
}

void PythonObserver::progressed(int64_t iteration, int64_t total) {
  if (iteration < total && !is_due(shown_)) {
    return;
  }
  in_python([&] {
    if (!progress_.is_none()) {
      progress_.attr("progressed")(iteration);
    }
  });
}

bool PythonObserver::wants_stop() {
  if (is_due(asked_)) {
    in_python([] {
      if (PyErr_CheckSignals() != 0) {
        throw py::error_already_set();
      }
    });
  }
  return thrown_ != nullptr;
}

void PythonObserver::end() {
  in_python([&] {
    if (!progress_.is_none()) {
      progress_.attr("end")();
    }
  });
}

void PythonObserver::rethrow() const {
  if (thrown_) {
    std::rethrow_exception(thrown_);
  }
}

}  // namespace gradist::python
