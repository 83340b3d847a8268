#include "bind.h"
#include "python_observer.h"

#include "rf/closed_form_moments.h"
#include "rf/parallel.h"
#include "rf/sweep.h"

#include <c10/util/Exception.h>
#include <pybind11/numpy.h>

#include <algorithm>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace gradist::python {
namespace {

using Texts = std::vector<std::pair<std::string, std::string>>;
using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;
using Wholes = py::array_t<int64_t, py::array::c_style | py::array::forcecast>;
using Columns = std::map<std::string, std::vector<double>>;

/// Options of a sweep as text, named as on the command line.
rf::SweepOptions resolved(const std::string& preset, const std::string& config,
                          const Texts& options) {
  auto resolved = rf::resolve_sweep_options(
      {.preset = preset, .config_file = config, .options = options, .origin = ""});
  rf::check_sweep_options(resolved);
  return resolved;
}

/// What a worker needs to know: the config of a sweep as text.
rf::SweepOptions from_config_text(const std::string& text) {
  rf::SweepOptions options;
  OptionList list = list_options(options);
  set_from_toml(list, text, "config");
  rf::check_sweep_options(options);
  return options;
}

bool sweep(const std::string& preset, const std::string& config, const Texts& options,
           py::object progress) {
  PythonSweepObserver observer(std::move(progress));
  bool complete = false;
  {
    const py::gil_scoped_release no_gil;
    complete = !rf::run_sweep(resolved(preset, config, options), &observer).stopped;
  }
  observer.rethrow();
  return complete;
}

Columns columns_of(const rf::ModelRecord& record) {
  Columns columns;
  for (const auto& column : rf::sweep_columns()) {
    columns[column.name] = record.*column.values;
  }
  return columns;
}

rf::ModelRecord record_of(const Columns& columns) {
  rf::ModelRecord record;
  for (const auto& column : rf::sweep_columns()) {
    record.*column.values = columns.at(column.name);
  }
  return record;
}

/// Models by their numbers, {number: {column: values}}; runs anywhere.
std::map<int64_t, Columns> compute(const std::string& config, const std::vector<int64_t>& models,
                                   int64_t threads) {
  const py::gil_scoped_release no_gil;
  rf::SweepOptions options = from_config_text(config);
  options.threads = threads;
  std::map<int64_t, Columns> computed;
  rf::compute_models(options, models, [&](int64_t model, const rf::ModelRecord& record) {
    computed[model] = columns_of(record);
  });
  return computed;
}

/// A sweep's file for models that are computed elsewhere.
class OpenSweep {
 public:
  OpenSweep(const std::string& preset, const std::string& config, const Texts& options)
      : options_(resolved(preset, config, options)), file_(rf::open_sweep_file(options_)) {}

  std::string config() const { return rf::config_of(options_); }

  /// Models still to be computed, those with the same features together.
  std::vector<std::vector<int64_t>> groups() const {
    std::vector<std::vector<int64_t>> groups;
    for (const auto& group : rf::grouped(options_, rf::missing_models(options_, *file_))) {
      groups.push_back(group.models);
    }
    return groups;
  }

  void add(int64_t model, const Columns& columns) {
    TORCH_CHECK_VALUE(file_.has_value(), "the sweep is closed");
    file_->add(model, record_of(columns));
  }

  void close() { file_.reset(); }

 private:
  rf::SweepOptions options_;
  std::optional<rf::SweepFile> file_;
};

py::tuple make(int64_t n, int64_t d_in, int64_t h_teacher, int64_t h_student, int64_t seed,
               const std::string& activation, bool center_labels) {
  rf::SweepOptions options;
  options.n = {n};
  options.d_in = {d_in};
  options.h_teacher = {h_teacher};
  options.h_student = {h_student};
  options.seeds = {seed};
  options.batch_size = {1};
  options.activation = activation;
  options.center_labels = center_labels;
  rf::check_sweep_options(options);
  py::array_t<float> features({n, h_student});
  Wholes labels(n);
  auto group = rf::grouped(options, {0}).front();
  group.features.test_examples = 0;
  {
    float* to = features.mutable_data();
    int64_t* label = labels.mutable_data();
    const py::gil_scoped_release no_gil;
    const auto made = rf::make_features(group.features, rf::resolved_threads(0));
    const auto problem = rf::training_set(options, rf::model_at(options, 0), made);
    for (int64_t i = 0; i < n; ++i) {
      const float* row = problem.psi->row(i);
      std::copy(row, row + h_student, to + i * h_student);
      label[i] = problem.labels[static_cast<size_t>(i)] > 0 ? 1 : -1;
    }
  }
  return py::make_tuple(features, labels);
}

std::vector<double> readout_of(const Doubles& weight, const Doubles& bias, int64_t h,
                               int64_t logits, const char* name) {
  TORCH_CHECK_VALUE(weight.size() == logits * h && bias.size() == logits, name, " of ",
                    weight.size(), " weights and ", bias.size(), " biases, must have ", logits * h,
                    " and ", logits);
  // With two logits, their difference decides.
  std::vector<double> readout(static_cast<size_t>(h + 1));
  for (int64_t row = 0; row < logits; ++row) {
    const double sign = row == logits - 1 ? 1 : -1;
    for (int64_t j = 0; j < h; ++j) {
      readout[static_cast<size_t>(j)] += sign * weight.data()[row * h + j];
    }
    readout.back() += sign * bias.data()[row];
  }
  return readout;
}

struct MomentRequest {
  int64_t batch_size;
  std::string estimator, loss;
  std::optional<std::pair<Doubles, Doubles>> snapshot;
  std::optional<Wholes> assignments;
  std::optional<Doubles> probabilities;
  int64_t gc_iterations;
  uint64_t seed;
};

rf::Partition given_clusters(const Wholes& given, const rf::RankOneGradients<double>& gradients) {
  std::vector<int32_t> assignments(given.data(), given.data() + given.size());
  const int64_t n = gradients.problem.examples();
  TORCH_CHECK_VALUE(given.size() == n, "clusters of ", given.size(), " examples, must have ", n);
  const auto [low, high] = std::minmax_element(given.data(), given.data() + n);
  TORCH_CHECK_VALUE(*low >= 0 && *high < n, "clusters, must be numbers in [0, ", n, ")");
  return rf::evaluated(gradients, std::move(assignments), *high + 1);
}

std::vector<double> given_probabilities(const Doubles& given, int64_t n) {
  std::vector<double> probabilities(given.data(), given.data() + given.size());
  const double total = std::accumulate(probabilities.begin(), probabilities.end(), 0.0);
  TORCH_CHECK_VALUE(
      given.size() == n &&
          std::all_of(probabilities.begin(), probabilities.end(), [](double p) { return p > 0; }) &&
          std::abs(total - 1) < 1e-9,
      "probabilities, must be ", n, " numbers > 0 whose sum is 1");
  return probabilities;
}

/// The estimator's state as given, or refreshed at the readout at hand.
rf::EstimatorState state_of(const MomentRequest& request, const rf::Problem<double>& problem,
                            const std::vector<double>& residuals,
                            const std::vector<double>& snapshot_residuals) {
  rf::EstimatorState state;
  state.kind = rf::estimator_by_name(request.estimator);
  const bool clusters =
      state.kind == rf::EstimatorKind::kGc || state.kind == rf::EstimatorKind::kGcDescent;
  const bool importance = state.kind == rf::EstimatorKind::kSgImportance;
  const auto row_norms = rf::squared_row_norms(problem);
  if (state.kind == rf::EstimatorKind::kSvrg) {
    state.snapshot_residuals = snapshot_residuals;
  } else if (clusters && request.assignments) {
    state.clusters = given_clusters(*request.assignments, {problem, residuals, row_norms});
  } else if (importance && request.probabilities) {
    state.probabilities = given_probabilities(*request.probabilities, problem.examples());
  } else {
    state = rf::refreshed(state.kind, problem, residuals, row_norms,
                          {.clusters = request.batch_size, .gc_iterations = request.gc_iterations},
                          rf::Words(rf::Philox(request.seed, rf::Stream::kClustering), 0));
  }
  return state;
}

/// The logits of a readout of this weight, 1 or 2; refuses what does not fit together.
int64_t checked_logits(const Doubles& features, const Doubles& labels, const Doubles& weight,
                       const MomentRequest& request) {
  TORCH_CHECK_VALUE(features.ndim() == 2 && features.shape(0) >= 1 && features.shape(1) >= 1,
                    "features, must be [N, h]");
  const int64_t n = features.shape(0);
  TORCH_CHECK_VALUE(labels.size() == n, "labels of ", labels.size(), " examples, must have ", n);
  const int64_t logits = weight.ndim() == 2 ? 2 : 1;
  TORCH_CHECK_VALUE(weight.ndim() <= 2 && (logits == 1 || weight.shape(0) == 2),
                    "weight, must be [h], or [2, h] for two logits");
  TORCH_CHECK_VALUE(logits == 1 || request.loss == "cross-entropy", "loss = ", request.loss,
                    ", must be cross-entropy for two logits");
  TORCH_CHECK_VALUE(request.batch_size >= 1 && request.batch_size <= n,
                    "batch_size = ", request.batch_size, ", must lie in [1, ", n,
                    "], the number of examples");
  TORCH_CHECK_VALUE(request.gc_iterations >= 1, "gc_iterations = ", request.gc_iterations,
                    ", must be >= 1");
  return logits;
}

/// Fills `psi` with rows [phi_i; 1] and returns the problem on them.
rf::Problem<double> problem_on(rf::Rows<double>& psi, const Doubles& features,
                               const Doubles& labels, const std::string& loss) {
  const int64_t h = features.shape(1);
  rf::Problem<double> problem;
  problem.psi = &psi;
  problem.loss = rf::loss_by_name(loss);
  for (int64_t i = 0; i < psi.count(); ++i) {
    std::copy_n(features.data() + i * h, h, psi.row(i));
    psi.row(i)[h] = 1;
    problem.index.push_back(static_cast<int32_t>(i));
    problem.labels.push_back(labels.data()[i]);
    TORCH_CHECK_VALUE(std::abs(labels.data()[i]) == 1, "labels, must be -1 or +1");
  }
  return problem;
}

Moments moments(const Doubles& features, const Doubles& labels, const Doubles& weight,
                const Doubles& bias, const MomentRequest& request) {
  const int64_t logits = checked_logits(features, labels, weight, request);
  const int64_t h = features.shape(1);
  rf::Rows<double> psi(features.shape(0), h + 1);
  const auto problem = problem_on(psi, features, labels, request.loss);
  const auto residuals_at = [&](const std::vector<double>& readout) {
    rf::Rows<double> w(1, h + 1);
    std::copy(readout.begin(), readout.end(), w.data());
    return rf::read_out(problem, w.data()).residuals;
  };
  const auto readout = readout_of(weight, bias, h, logits, "readout");
  const auto snapshot =
      request.snapshot
          ? readout_of(request.snapshot->first, request.snapshot->second, h, logits, "snapshot")
          : readout;
  const py::gil_scoped_release no_gil;
  const auto residuals = residuals_at(readout);
  const auto state = state_of(request, problem, residuals, residuals_at(snapshot));
  return rf::exact_moments(problem, residuals, {state},
                           {.batch_size = request.batch_size, .logits = logits})
      .front();
}

/// Name, meaning and default of every option of a sweep, as text.
std::vector<std::tuple<std::string, std::string, std::string>> options() {
  std::vector<std::tuple<std::string, std::string, std::string>> described;
  rf::SweepOptions defaults;
  for (const auto& option : list_options(defaults)) {
    described.emplace_back(option.name(), option.doc(), option.text());
  }
  return described;
}

}  // namespace

void bind_rf(py::module_& module) {
  const auto no_gil = py::call_guard<py::gil_scoped_release>();
  module.def("rf_options", &options);
  module.def("rf_sweep", &sweep, py::kw_only(), py::arg("preset"), py::arg("config"),
             py::arg("options"), py::arg("progress"));
  module.def(
      "rf_merge",
      [](const Texts& texts) {
        const auto merged = rf::merge_sweeps(resolved("", "", texts));
        return std::pair(merged.complete, merged.models);
      },
      py::arg("options"), no_gil);
  module.def("rf_compute", &compute, py::arg("config"), py::arg("models"), py::arg("threads"));
  module.def("rf_make", &make, py::kw_only(), py::arg("n"), py::arg("d_in"), py::arg("h_teacher"),
             py::arg("h_student"), py::arg("seed"), py::arg("activation"),
             py::arg("center_labels"));
  module.def(
      "rf_moments",
      [](const Doubles& features, const Doubles& labels, const Doubles& weight, const Doubles& bias,
         int64_t batch_size, const std::string& estimator, const std::string& loss,
         std::optional<std::pair<Doubles, Doubles>> snapshot, std::optional<Wholes> assignments,
         std::optional<Doubles> probabilities, int64_t gc_iterations, uint64_t seed) {
        return moments(features, labels, weight, bias,
                       {.batch_size = batch_size,
                        .estimator = estimator,
                        .loss = loss,
                        .snapshot = std::move(snapshot),
                        .assignments = std::move(assignments),
                        .probabilities = std::move(probabilities),
                        .gc_iterations = gc_iterations,
                        .seed = seed});
      },
      py::kw_only(), py::arg("features"), py::arg("labels"), py::arg("weight"), py::arg("bias"),
      py::arg("batch_size"), py::arg("estimator"), py::arg("loss"), py::arg("snapshot"),
      py::arg("assignments"), py::arg("probabilities"), py::arg("gc_iterations"), py::arg("seed"));

  py::class_<OpenSweep>(module, "OpenSweep")
      .def(py::init<const std::string&, const std::string&, const Texts&>(), py::arg("preset"),
           py::arg("config"), py::arg("options"))
      .def_property_readonly("config", &OpenSweep::config)
      .def_property_readonly("groups", &OpenSweep::groups)
      .def("add", &OpenSweep::add, py::arg("model"), py::arg("columns"))
      .def("close", &OpenSweep::close);
}

}  // namespace gradist::python
