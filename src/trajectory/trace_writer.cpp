#include "trajectory/trace_writer.h"

#include "storage/hdf5_maker.h"
#include "storage/output_place.h"
#include "trajectory/norm_distribution.h"
#include "trajectory/trace_columns.h"

#include <c10/util/Exception.h>
#include <hdf5.h>
#include <hdf5_hl.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <numeric>
#include <utility>
#include <vector>

namespace gradist {

namespace {

using detail::Hdf5Check;
using detail::Hdf5Handle;
using detail::Hdf5Maker;
using detail::memory_type;
using detail::QuietHdf5;

using Shape = std::vector<hsize_t>;

/// A dataset [rows, ...] that grows by a row at a time.
template <class Number>
class Series {
 public:
  Series() = default;
  Series(Hdf5Handle dataset, Shape row, const Hdf5Check& check)
      : dataset_(std::move(dataset)), row_(std::move(row)), check_(&check) {}

  hid_t id() const { return dataset_; }

  void append(Number value) { append(&value, Shape{}); }
  void append(const std::vector<Number>& row) { append(row.data(), Shape{row.size()}); }
  void append(const at::Tensor& row) {
    const auto kept = row.to(at::kCPU).contiguous();
    append(kept.const_data_ptr<Number>(), Shape(row.sizes().begin(), row.sizes().end()));
  }

 private:
  /// A row that is longer than all before widens the dataset; a shorter one is padded with the fill
  /// value.
  void append(const Number* row, Shape count) {
    for (size_t d = 0; d < count.size(); ++d) {
      row_[d] = std::max(row_[d], count[d]);
    }
    const hsize_t length =
        std::accumulate(count.begin(), count.end(), hsize_t{1}, std::multiplies<>());
    count.insert(count.begin(), 1);
    Shape extents = row_, start(count.size(), 0);
    extents.insert(extents.begin(), rows_ + 1);
    start.front() = rows_++;
    (*check_)(H5Dset_extent(dataset_, extents.data()));
    const auto file_space = check_->handle(H5Dget_space(dataset_), H5Sclose);
    (*check_)(H5Sselect_hyperslab(file_space, H5S_SELECT_SET, start.data(), nullptr, count.data(),
                                  nullptr));
    const auto memory_space = check_->handle(H5Screate_simple(1, &length, nullptr), H5Sclose);
    (*check_)(
        H5Dwrite(dataset_, memory_type(Number()), memory_space, file_space, H5P_DEFAULT, row));
  }

  Hdf5Handle dataset_;
  hsize_t rows_ = 0;
  Shape row_;  ///< extents of a row so far; none: a number
  const Hdf5Check* check_ = nullptr;
};

template <class Number>
std::vector<Number> counting(int64_t count) {
  std::vector<Number> numbers(count);
  std::iota(numbers.begin(), numbers.end(), Number{0});
  return numbers;
}

/// One estimator's group: a series for each of its numbers.
struct EstimatorSeries {
  std::vector<std::pair<detail::Column<Moments>, Series<double>>> numbers;
  Series<int64_t> gradient_evaluations;
  std::vector<Series<double>> layers;    ///< [L]
  std::vector<Series<double>> variance;  ///< [L] or none
};

/// What the refreshes of one estimator made.
struct RefreshSeries {
  Series<int64_t> iteration, gradient_evaluations, sizes, step;
  Series<double> seconds, objective, scatter, parameter_scatter;
  Series<int32_t> assignments;
  int64_t steps = 0;  ///< length of `step` so far
};

hsize_t chunk_rows(int64_t rows) { return std::clamp<int64_t>(rows, 16, 1024); }

}  // namespace

/// The open file and all its series.
class TraceWriter::File {
 public:
  File(const std::string& path, const RunInfo& info)
      : path_(path),
        temporary_(path + ".partial-" + std::to_string(getpid())),
        check_(path, "cannot be written"),
        make_(check_),
        rows_(chunk_rows(info.log_points)),
        examples_(info.examples),
        parameters_(static_cast<int64_t>(info.parameter_names.size())) {
    try {
      file_ = make_.file(temporary_);
      write_attributes(info);
      make_trajectory();
      make_gradients(info);
      make_estimators(info);
      refresh_group_ = make_.group(file_, "refresh");
      if (info.options.drift_every > 0) {
        make_drift();
      }
      if (info.options.init == kMetaInit) make_metainit();
    } catch (...) {
      discard();
      throw;
    }
  }

  ~File() {
    if (!published_) {
      discard();
    }
  }

  File(const File&) = delete;
  File& operator=(const File&) = delete;

  /// Puts the file in its place, from where it can be read while it grows.
  void publish(bool overwrite) {
    check_(H5Fflush(file_, H5F_SCOPE_GLOBAL));
    check_(H5Fstart_swmr_write(
        file_));  // before it has its name: whoever finds it may read it at once
    detail::publish_file(temporary_, path_, overwrite);
    published_ = true;
  }

  bool published() const { return published_; }

  void add(const InitialisationStep& step) {
    metainit_step_.append(step.step);
    metainit_quotient_.append(step.quotient);
  }

  void add(const RefreshEvent& event) {
    const auto [entry, is_new] = refreshes_.try_emplace(event.estimator);
    RefreshSeries& series = entry->second;
    if (is_new) {
      // New objects cannot be made once the file is published; the refresh at iteration 0 always
      // comes first.
      TORCH_INTERNAL_ASSERT(!published_, event.estimator,
                            " was first refreshed after the first log point");
      series = make_refresh(event);
    }
    series.iteration.append(event.iteration);
    series.gradient_evaluations.append(event.gradient_evaluations);
    series.seconds.append(event.seconds);
    if (event.clustering != nullptr) {
      add_clustering(*event.clustering, series);
    }
  }

  void add(const TrajectoryStep& step) {
    for (auto* iteration :
         {&trajectory_iteration_, &estimators_iteration_, &gradients_iteration_}) {
      iteration->append(step.iteration);
    }
    for (auto& [column, series] : trajectory_) {
      series.append(step.*column.member);
    }
    parameter_hash_.append(step.parameter_hash);
    quantiles_.append(norm_quantiles(step.squared_norms));
    histogram_.append(norm_histogram(step.squared_norms));
    top_percent_share_.append(top_percent_share(step.squared_norms));
    for (size_t i = 0; i < estimators_.size(); ++i) {
      add_moments(step.moments.at(i), estimators_[i]);
    }
    append_each(step.full_gradient, full_gradient_);
    check_(H5Fflush(file_, H5F_SCOPE_GLOBAL));
  }

  void add(const DriftStep& step) {
    drift_iteration_.append(step.iteration);
    since_snapshot_.append(step.since_snapshot);
    for (auto& [column, series] : drift_) {
      series.append(step.*column.member);
    }
  }

 private:
  void discard() {
    close_all();
    std::error_code ignored;
    std::filesystem::remove(temporary_, ignored);
  }

  void close_all() {
    file_.reset();  // the datasets' handles keep it open until they are gone
    trajectory_.clear();
    estimators_.clear();
    full_gradient_.clear();
    refreshes_.clear();
    drift_.clear();
    for (auto* series : {&trajectory_iteration_, &estimators_iteration_, &gradients_iteration_,
                         &drift_iteration_, &since_snapshot_, &metainit_step_}) {
      *series = {};
    }
    metainit_quotient_ = {};
    parameter_hash_ = {};
    quantiles_ = {};
    histogram_ = {};
    top_percent_share_ = {};
    refresh_group_.reset();
  }

  void write_attributes(const RunInfo& info) {
    make_.attribute(file_, "schema", std::string("gradist-trace"));
    make_.attribute(file_, "schema_version", kTraceSchemaVersion);
    make_.attribute(file_, "gradist_version", std::string(GRADIST_VERSION));
    make_.attribute(file_, "config", to_toml(info.options));
    make_.attribute(file_, "parameters", info.parameters);
    make_.attribute(file_, "examples", info.examples);
    make_.attribute(file_, "batch_size", info.options.batch_size);
  }

  template <class Number>
  Series<Number> series(hid_t group, const std::string& name, const std::string& long_name) {
    auto dataset = make_.dataset<Number>(group, name, {0}, {H5S_UNLIMITED}, {rows_});
    make_.attribute(dataset, "long_name", long_name);
    return {std::move(dataset), {}, check_};
  }

  /// A series along the scale `axis`.
  template <class Number>
  Series<Number> series_along(hid_t axis, hid_t group, const std::string& name,
                              const std::string& long_name) {
    auto made = series<Number>(group, name, long_name);
    check_(H5DSattach_scale(made.id(), axis, 0));
    return made;
  }

  /// A series of arrays along the scale `axis`, with a scale for each of their own axes; `grows`:
  /// arrays may become larger.
  template <class Number>
  Series<Number> arrays_along(hid_t axis, const std::vector<hid_t>& own_axes, Shape array,
                              hid_t group, const std::string& name, const std::string& long_name,
                              bool grows = false) {
    Shape extents{0}, limits{H5S_UNLIMITED}, chunk{array.empty() ? rows_ : 1};
    for (const auto extent : array) {
      extents.push_back(extent);
      limits.push_back(grows ? H5S_UNLIMITED : extent);
      chunk.push_back(std::clamp<hsize_t>(extent, 1, 1 << 20));
    }
    auto dataset = make_.dataset<Number>(group, name, extents, limits, chunk);
    make_.attribute(dataset, "long_name", long_name);
    check_(H5DSattach_scale(dataset, axis, 0));
    for (size_t d = 0; d < own_axes.size(); ++d) {
      check_(H5DSattach_scale(dataset, own_axes[d], static_cast<unsigned>(d + 1)));
    }
    return {std::move(dataset), std::move(array), check_};
  }

  /// A series of rows along the scales `axis` and `row_axis`.
  template <class Number>
  Series<Number> table_along(hid_t axis, hid_t row_axis, int64_t width, hid_t group,
                             const std::string& name, const std::string& long_name,
                             bool grows = false) {
    return arrays_along<Number>(axis, {row_axis}, {static_cast<hsize_t>(width)}, group, name,
                                long_name, grows);
  }

  /// A series of arrays of a parameter's shape, their scales beside them.
  Series<double> parameters_along(hid_t axis, const std::vector<int64_t>& shape, hid_t group,
                                  const std::string& name, const std::string& long_name) {
    std::vector<Hdf5Handle> scales;
    for (size_t d = 0; d < shape.size(); ++d) {
      scales.push_back(
          make_.scale(group, "axis_" + std::to_string(d), counting<int64_t>(shape[d])));
    }
    return arrays_along<double>(axis, {scales.begin(), scales.end()}, {shape.begin(), shape.end()},
                                group, name, long_name);
  }

  Series<int64_t> iteration_scale(hid_t group, const std::string& long_name) {
    auto made = series<int64_t>(group, "iteration", long_name);
    check_(H5DSset_scale(made.id(), "iteration"));
    return made;
  }

  void make_metainit() {
    const auto group = make_.group(file_, "metainit");
    metainit_step_ = series<int64_t>(group, "step", "steps of MetaInit done");
    check_(H5DSset_scale(metainit_step_.id(), "step"));
    metainit_quotient_ = series_along<double>(metainit_step_.id(), group, "quotient",
                                              "gradient quotient of a minibatch of noise");
  }

  void make_trajectory() {
    const auto group = make_.group(file_, "trajectory");
    trajectory_iteration_ = iteration_scale(group, "SGD steps done");
    const hid_t axis = trajectory_iteration_.id();
    for (const auto& column : detail::trajectory_columns()) {
      trajectory_.emplace_back(column,
                               series_along<double>(axis, group, column.name, column.long_name));
    }
    parameter_hash_ =
        series_along<uint64_t>(axis, group, "parameter_hash", "hash of the parameters' bytes");
  }

  void make_drift() {
    const auto group = make_.group(file_, "drift");
    drift_iteration_ = iteration_scale(group, "SGD steps done");
    const hid_t axis = drift_iteration_.id();
    since_snapshot_ =
        series_along<int64_t>(axis, group, "since_snapshot", "SGD steps since the last snapshot");
    for (const auto& column : detail::drift_columns()) {
      drift_.emplace_back(column, series_along<double>(axis, group, column.name, column.long_name));
    }
  }

  void make_gradients(const RunInfo& info) {
    const auto group = make_.group(file_, "gradients");
    gradients_iteration_ = iteration_scale(group, "SGD steps done");
    const hid_t axis = gradients_iteration_.id();
    const auto quantile = make_.scale(group, "quantile", norm_quantile_levels());
    const auto bin = make_.scale(group, "bin", counting<int64_t>(kNormBins));
    quantiles_ =
        table_along<double>(axis, quantile, kNormQuantiles, group, "squared_norm_quantiles",
                            "quantiles of ||g_i||^2 over the examples");
    histogram_ =
        table_along<double>(axis, bin, kNormBins, group, "squared_norm_histogram",
                            "examples with ||g_i||^2 between two edges; outliers in the end bins");
    make_.scale(group, "squared_norm_histogram_edges", norm_histogram_edges());
    top_percent_share_ =
        series_along<double>(axis, group, "top_percent_share",
                             "share of sum ||g_i||^2 that the largest 1 % of the examples carry");
    if (!info.options.per_coordinate) {
      return;
    }
    const auto layers = make_.group(group, "layers");
    for (size_t l = 0; l < info.parameter_names.size(); ++l) {
      const auto layer = make_.group(layers, info.parameter_names[l]);
      full_gradient_.push_back(
          parameters_along(axis, info.parameter_shapes[l], layer, "full_gradient", "g"));
    }
  }

  void make_estimators(const RunInfo& info) {
    const auto group = make_.group(file_, "estimators");
    estimators_iteration_ = iteration_scale(group, "SGD steps done");
    for (const auto& name : info.options.estimator) {
      estimators_.push_back(make_estimator_series(make_.group(group, name), info));
    }
  }

  EstimatorSeries make_estimator_series(hid_t group, const RunInfo& info) {
    EstimatorSeries made;
    const hid_t axis = estimators_iteration_.id();
    auto columns = detail::moment_columns();
    if (info.options.measure != "exact") {
      columns.insert(columns.end(), detail::interval_columns().begin(),
                     detail::interval_columns().end());
    }
    for (const auto& column : columns) {
      made.numbers.emplace_back(column,
                                series_along<double>(axis, group, column.name, column.long_name));
    }
    made.gradient_evaluations = series_along<int64_t>(
        axis, group, "gradient_evaluations", "single-example gradients spent on the measurement");
    const auto layers = make_.group(group, "layers");
    for (size_t l = 0; l < info.parameter_names.size(); ++l) {
      const auto layer = make_.group(layers, info.parameter_names[l]);
      made.layers.push_back(series_along<double>(axis, layer, "average_variance",
                                                 "tr Cov of this parameter / its size"));
      if (info.options.per_coordinate) {
        made.variance.push_back(parameters_along(axis, info.parameter_shapes[l], layer, "variance",
                                                 "Var of each coordinate of the estimate"));
      }
    }
    return made;
  }

  RefreshSeries make_refresh(const RefreshEvent& event) {
    RefreshSeries made;
    const auto group = make_.group(refresh_group_, event.estimator);
    made.iteration = iteration_scale(group, "SGD steps done at the refresh");
    const hid_t axis = made.iteration.id();
    made.gradient_evaluations = series_along<int64_t>(axis, group, "gradient_evaluations",
                                                      "single-example gradients spent");
    made.seconds = series_along<double>(axis, group, "seconds", "wall time of the refresh");
    if (event.clustering != nullptr) {
      make_clustering(*event.clustering, axis, group, made);
    }
    return made;
  }

  void make_clustering(const Clustering& clustering, hid_t axis, hid_t group, RefreshSeries& made) {
    const int64_t clusters = clustering.clusters();
    const auto example = make_.scale(group, "example", counting<int32_t>(examples_));
    const auto cluster = make_.scale(group, "cluster", counting<int64_t>(clusters));
    made.step = series<int64_t>(group, "step", "step of the clustering");
    check_(H5DSset_scale(made.step.id(), "step"));
    made.assignments = table_along<int32_t>(axis, example, examples_, group, "assignments",
                                            "cluster of each example");
    made.sizes =
        table_along<int64_t>(axis, cluster, clusters, group, "sizes", "examples in each cluster");
    made.scatter = table_along<double>(axis, cluster, clusters, group, "scatter",
                                       "N_k SSE_k of each cluster, exact");
    const auto parameter = make_.scale(group, "parameter", counting<int64_t>(parameters_));
    made.parameter_scatter =
        table_along<double>(axis, parameter, parameters_, group, "parameter_scatter",
                            "sum_k N_k SSE_k of each parameter alone, exact");
    made.objective = table_along<double>(axis, made.step.id(), 0, group, "objective",
                                         "J = sum_k N_k SSE_k after each step", /*grows=*/true);
  }

  void add_clustering(const Clustering& clustering, RefreshSeries& series) {
    series.assignments.append(clustering.assignments().to(at::kInt));
    series.sizes.append(clustering.sizes());
    series.scatter.append(clustering.scatter);
    series.parameter_scatter.append(clustering.parameter_scatter.sum(1));
    for (; series.steps < static_cast<int64_t>(clustering.history.size()); ++series.steps) {
      series.step.append(series.steps);
    }
    series.objective.append(clustering.history);
  }

  static void add_moments(const Moments& moments, EstimatorSeries& series) {
    for (auto& [column, numbers] : series.numbers) {
      numbers.append(moments.*column.member);
    }
    series.gradient_evaluations.append(moments.gradient_evaluations);
    for (size_t l = 0; l < series.layers.size(); ++l) {
      const auto& layers = moments.layer_average_variance;
      series.layers[l].append(l < layers.size() ? layers[l] : kUndefined);
    }
    append_each(moments.variance, series.variance);
  }

  /// A row to each of the series, if there are any.
  static void append_each(const ParameterList& rows, std::vector<Series<double>>& series) {
    for (size_t l = 0; l < series.size(); ++l) {
      series[l].append(rows.at(l));
    }
  }

  QuietHdf5 quiet_;
  std::string path_, temporary_;
  Hdf5Check check_;
  Hdf5Maker make_;
  hsize_t rows_;
  int64_t examples_, parameters_;
  bool published_ = false;
  Hdf5Handle file_, refresh_group_;
  Series<int64_t> trajectory_iteration_, estimators_iteration_, gradients_iteration_;
  Series<int64_t> metainit_step_;
  Series<double> metainit_quotient_;
  std::vector<std::pair<detail::Column<TrajectoryStep>, Series<double>>> trajectory_;
  Series<int64_t> drift_iteration_, since_snapshot_;
  std::vector<std::pair<detail::Column<DriftStep>, Series<double>>> drift_;
  Series<uint64_t> parameter_hash_;
  Series<double> quantiles_, histogram_, top_percent_share_;
  std::vector<EstimatorSeries> estimators_;
  std::vector<Series<double>> full_gradient_;  ///< [L] or none
  std::map<std::string, RefreshSeries> refreshes_;
};

TraceWriter::TraceWriter(std::string path, bool overwrite)
    : path_(std::move(path)), overwrite_(overwrite) {}

TraceWriter::~TraceWriter() = default;

void TraceWriter::begin(const RunInfo& info) {
  // A link stays a link: what it points to is replaced.
  std::error_code error;
  const auto target = std::filesystem::weakly_canonical(path_, error);
  file_ = std::make_unique<File>(error ? path_ : target.string(), info);
}

void TraceWriter::initialised(const InitialisationStep& step) { file_->add(step); }

void TraceWriter::refreshed(const RefreshEvent& event) { file_->add(event); }

void TraceWriter::logged(const TrajectoryStep& step) {
  if (!file_->published()) {
    file_->publish(overwrite_);
  }
  file_->add(step);
}

void TraceWriter::drifted(const DriftStep& step) { file_->add(step); }

void TraceWriter::end() { file_.reset(); }

}  // namespace gradist
