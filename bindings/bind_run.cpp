#include "bind.h"
#include "python_observer.h"

#include "rf/presets.h"
#include "tools/program.h"
#include "trajectory/presets.h"
#include "trajectory/sgd_trajectory.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace gradist::python {
namespace {

using Texts = std::vector<std::pair<std::string, std::string>>;

/// Runs a trajectory with options as text, named as on the command line; true if it ran to its end.
bool run_with_options(const std::string& preset, const std::string& config, const Texts& options,
                      py::object progress) {
  const RunRequest request{
      .preset = preset, .config_file = config, .options = options, .origin = ""};
  PythonObserver observer(std::move(progress));
  bool complete = false;
  {
    const py::gil_scoped_release no_gil;
    complete = !run(resolve_run_options(request), {&observer}).stopped;
  }
  observer.rethrow();
  return complete;
}

/// The program of the command line; a progress object replaces its plain lines.
int program(const std::vector<std::string>& arguments, const py::object& progress) {
  ProgramFaces faces;
  if (!progress.is_none()) {
    faces.make_progress = [&progress] {
      const py::gil_scoped_acquire gil;
      return std::make_unique<PythonObserver>(progress);
    };
    faces.make_sweep_progress = [&progress] {
      const py::gil_scoped_acquire gil;
      return std::make_unique<PythonSweepObserver>(progress);
    };
  }
  const py::gil_scoped_release no_gil;
  return run_program(arguments, faces);
}

/// Name, meaning and default of every option of a run, as text.
std::vector<std::tuple<std::string, std::string, std::string>> run_options() {
  std::vector<std::tuple<std::string, std::string, std::string>> described;
  RunOptions defaults;
  for (const auto& option : list_options(defaults)) {
    described.emplace_back(option.name(), option.doc(), option.text());
  }
  return described;
}

/// Name, what it reproduces, data and time of each preset.
std::vector<std::tuple<std::string, std::string, std::string, std::string>> described(
    const std::vector<Preset>& presets) {
  std::vector<std::tuple<std::string, std::string, std::string, std::string>> list;
  for (const auto& preset : presets) {
    list.emplace_back(preset.name, preset.source, preset.data, preset.time);
  }
  return list;
}

}  // namespace

void bind_run(py::module_& module) {
  module.def("run", &run_with_options, py::kw_only(), py::arg("preset"), py::arg("config"),
             py::arg("options"), py::arg("progress"));
  module.def("program", &program, py::arg("arguments"), py::arg("progress") = py::none());
  module.def("run_options", &run_options);
  module.def("run_presets", [] { return described(presets()); });
  module.def("rf_presets", [] { return described(rf::presets()); });
}

}  // namespace gradist::python
