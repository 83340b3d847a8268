#include "python_sweep_observer.h"

#include <utility>

namespace gradist::python {
namespace {

// Often enough for fingers, too seldom to cost anything.
constexpr std::chrono::milliseconds kPause(50);

}  // namespace

PythonSweepObserver::PythonSweepObserver(py::object progress) : progress_(std::move(progress)) {}

PythonSweepObserver::~PythonSweepObserver() {
  const py::gil_scoped_acquire gil;
  thrown_ = nullptr;
  progress_ = py::object();
}

template <class Call>
void PythonSweepObserver::in_python(const Call& call) {
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

void PythonSweepObserver::begin(const rf::SweepStatus& status) {
  in_python([&] {
    if (!progress_.is_none()) {
      progress_.attr("begin")(status.total);
    }
  });
}

void PythonSweepObserver::progressed(const rf::SweepStatus& status) {
  in_python([&] {
    if (!progress_.is_none()) {
      progress_.attr("progressed")(status.done);
    }
  });
}

bool PythonSweepObserver::wants_stop() {
  if (std::this_thread::get_id() == home_ && Clock::now() - asked_ >= kPause) {
    asked_ = Clock::now();
    in_python([] {
      if (PyErr_CheckSignals() != 0) {
        throw py::error_already_set();
      }
    });
  }
  return has_thrown_;
}

void PythonSweepObserver::rethrow() const {
  if (thrown_) {
    std::rethrow_exception(thrown_);
  }
}

}  // namespace gradist::python
