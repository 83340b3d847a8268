#include "trajectory/run_options.h"

#include "storage/output_place.h"
#include "trajectory/device.h"
#include "trajectory/presets.h"
#include "trajectory/random_streams.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <sstream>

namespace gradist {

namespace {

struct Duplicates {
  int64_t points = 0;
  double fraction = 0;
};

/// "n,x", or nothing where the text is no such pair.
std::optional<Duplicates> parse_duplicates(const std::string& text) {
  std::istringstream stream(text);
  Duplicates duplicates;
  char comma = 0;
  const bool complete =
      stream >> duplicates.points >> comma >> duplicates.fraction && stream.peek() == EOF;
  const bool valid = complete && comma == ',' && duplicates.points >= 1 &&
                     duplicates.fraction > 0 && duplicates.fraction < 1;
  return valid ? std::optional(duplicates) : std::nullopt;
}

/// Refuses `name = value`, in the words all errors of options have.
template <class T>
void refuse(const char* name, const T& value, const std::string& rule) {
  TORCH_CHECK_VALUE(false, name, " = ", value, ", ", rule);
}

/// Optimiser and network compute in float32.
void check_float(const char* name, double value) {
  if (value > static_cast<double>(std::numeric_limits<float>::max())) {
    refuse(name, value, "must fit into a 32-bit float");
  }
}

/// A subset sees up to this many examples of every cluster, see measurement.cpp.
constexpr int64_t kSeenOfEachCluster = 4;

void check_subset(const RunOptions& options, int64_t examples) {
  if (options.measure_examples > examples) {
    refuse("measure-examples", options.measure_examples,
           "must be <= " + std::to_string(examples) + ", the number of training examples");
  }
  const auto& names = options.estimator;
  const int64_t clusters = options.clusters > 0 ? options.clusters : options.batch_size;
  const int64_t least = std::min(kSeenOfEachCluster * clusters, examples);
  const auto clustering = std::find_if(
      names.begin(), names.end(), [](const std::string& name) { return name.rfind("gc", 0) == 0; });
  if (clustering != names.end() && options.measure_examples < least) {
    refuse("measure-examples", options.measure_examples,
           "must be >= " + std::to_string(least) + ", " + std::to_string(kSeenOfEachCluster) +
               " for each of the " + std::to_string(clusters) + " clusters of " + *clustering);
  }
}

void check_without_replacement(const RunOptions& options, int64_t examples) {
  for (const auto& name : options.estimator) {
    const int64_t draws = name == "sg-2b" ? 2 * options.batch_size : options.batch_size;
    if (!options.replacement && draws > examples) {
      refuse("replacement", "no",
             "must be yes where " + name + " draws " + std::to_string(draws) + " of " +
                 std::to_string(examples) + " examples");
    }
  }
}

/// By the statistics of a batch there are no gradients of single examples.
void check_batch_norm(const RunOptions& options) {
  if (options.batch_norm == "eval") {
    return;
  }
  if (options.norm == "none") {
    refuse("batch-norm", options.batch_norm, "must be eval where norm = none");
  }
  if (options.measure != "sampled") {
    refuse("measure", options.measure,
           "must be sampled where batch-norm = " + options.batch_norm +
               ": examples of a batch share its statistics and do not separate");
  }
  for (const auto& name : options.estimator) {
    if (name.rfind("gc", 0) == 0 || name == "sg-importance") {
      refuse("batch-norm", options.batch_norm,
             "must be eval for " + name + ", which needs the gradients of single examples");
    }
  }
}

void check_drift(const RunOptions& options) {
  const auto& names = options.estimator;
  if (options.drift_every > 0 && std::none_of(names.begin(), names.end(), takes_snapshot)) {
    refuse("drift-every", options.drift_every, "must be 0 where no estimator has a snapshot");
  }
}

/// MetaInit looks for norms of weights between which there is something that is not linear.
void check_metainit(const RunOptions& options) {
  if (options.init != kMetaInit) return;
  const std::string rule = "must be torch or he ";
  if (options.model == "logistic" || options.model == "linear") {
    refuse("init", kMetaInit, rule + "for " + options.model + ", which has no hidden layers");
  }
  if (options.norm != "none") {
    refuse("init", kMetaInit,
           rule + "where norm = " + options.norm + ", which takes the norms of weights away");
  }
}

}  // namespace

bool takes_snapshot(const std::string& estimator) {
  return estimator.find("svrg") != std::string::npos;
}

const std::vector<std::string>& run_initialisation_names() {
  static const auto names = [] {
    auto list = initialisation_names();
    list.emplace_back(kMetaInit);
    return list;
  }();
  return names;
}

const std::vector<std::string>& measure_names() {
  static const std::vector<std::string> names = {"exact", "subset", "sampled"};
  return names;
}

const std::vector<std::string>& driver_names() {
  static const auto names = [] {
    std::vector<std::string> list = {"none"};
    list.insert(list.end(), estimator_names().begin(), estimator_names().end());
    return list;
  }();
  return names;
}

Rule<std::string> duplicates_rule() {
  return {
      "must be n,x with n >= 1 points and 0 < x < 1, such as 10,0.5",
      [](const std::string& text) { return text.empty() || parse_duplicates(text).has_value(); }};
}

Rule<std::vector<std::string>> places_rule() {
  return {"must be two names, of the inputs and the targets, such as x_train,y_train",
          [](const std::vector<std::string>& places) {
            return places.size() == 2 && !places[0].empty() && !places[1].empty();
          }};
}

RunOptions resolve_run_options(const RunRequest& request) {
  RunOptions options;
  OptionList list = list_options(options);
  std::vector<std::string> chosen;
  if (!request.preset.empty()) {
    chosen = set_from_preset(list, find_preset(presets(), request.preset, request.origin));
  }
  const auto names = set_from_request(list, request.config_file, request.options, request.origin);
  chosen.insert(chosen.end(), names.begin(), names.end());
  imply_measure(options.protocol, chosen, options.measure);
  return options;
}

void check_run_options(const RunOptions& options) {
  RunOptions copy = options;
  for (const auto& option : list_options(copy)) {
    option.check("");
  }
  check_protocol(options.protocol, options.measure);
  for (const auto& name : options.estimator) {
    const bool importance = name == "gc-importance" || name == "sg-importance";
    if (importance && !options.replacement) {
      refuse("replacement", "no", "must be yes for " + name + ", which draws by norms");
    }
    if (importance && options.measure == "subset") {
      refuse("measure", options.measure, "must be exact or sampled for " + name);
    }
  }
  if (options.drive != "none" && std::find(options.estimator.begin(), options.estimator.end(),
                                           options.drive) == options.estimator.end()) {
    refuse("drive", options.drive, "must be none or among the estimators measured");
  }
  if (options.drive != "none" && options.norm != "none" && options.batch_norm == "eval") {
    refuse("drive", options.drive,
           "must be none where norm = " + options.norm +
               " and batch-norm = eval: a step by the statistics of its batch is no sum over "
               "examples");
  }
  check_batch_norm(options);
  check_drift(options);
  check_metainit(options);
  validate(data_options(options));
  validate(model_options(options));
  validate(estimator_options(options).gc_steps);
  check_float("lr", options.lr);
  check_float("weight-decay", options.weight_decay);
  check_device(options.device);
  check_threads(options.threads);
  if (!options.out.empty()) {
    detail::check_output_place(options.out, options.overwrite);
  }
}

void check_sizes(const RunOptions& options, int64_t examples) {
  const std::string limit = std::to_string(examples) + ", the number of training examples";
  if (options.batch_size > examples) {
    refuse("batch-size", options.batch_size, "must be <= " + limit);
  }
  if (options.clusters > examples) {
    refuse("clusters", options.clusters, "must be <= " + limit);
  }
  if (options.clusters > options.batch_size) {
    refuse("clusters", options.clusters,
           "must be <= batch-size = " + std::to_string(options.batch_size) +
               ", for every cluster needs a draw");
  }
  if (options.measure == "subset") {
    check_subset(options, examples);
  }
  check_without_replacement(options, examples);
}

DataOptions data_options(const RunOptions& options) {
  DataOptions data;
  data.data = options.data;
  data.data_dir = options.data_dir;
  data.targets = options.targets;
  data.target_column = options.target_column;
  data.train_examples = options.train_examples;
  data.label_corruption = options.label_corruption;
  const Duplicates duplicates = parse_duplicates(options.duplicates).value_or(Duplicates());
  data.duplicate_points = duplicates.points;
  data.duplicate_fraction = duplicates.fraction;
  data.hdf5_train = options.hdf5_train;
  data.hdf5_test = options.hdf5_test;
  data.stream = options.stream;
  data.seed = stream_seed(options.seed, RandomStream::kData);
  return data;
}

ModelOptions model_options(const RunOptions& options) {
  ModelOptions model;
  model.model = options.model;
  model.hidden = options.hidden;
  model.width = options.width;
  model.activation = options.activation;
  model.norm = options.norm;
  model.dropout = options.dropout;
  model.init = options.init == kMetaInit ? "torch" : options.init;
  return model;
}

EstimatorOptions estimator_options(const RunOptions& options) {
  EstimatorOptions estimator;
  estimator.batch_size = options.batch_size;
  estimator.replacement = options.replacement;
  estimator.clusters = options.clusters;
  estimator.allocation = allocation_by_name(options.allocation);
  estimator.balanced = options.balanced;
  estimator.gc_iterations = options.gc_iterations;
  estimator.gc_memory = options.gc_memory;
  estimator.gc_sketch = options.gc_sketch;
  estimator.gc_steps = {.start = start_by_name(options.gc_start),
                        .centers = center_by_name(options.gc_centers),
                        .rank = options.gc_rank,
                        .weighting = weighting_by_name(options.gc_weighting),
                        .fraction = options.gc_fraction,
                        .minibatch = options.gc_minibatch,
                        .decay = options.gc_decay};
  estimator.gc_parameters = options.gc_parameters;
  estimator.importance_mix = options.importance_mix;
  estimator.max_memory = options.max_memory.bytes;
  return estimator;
}

MeasureOptions measure_options(const RunOptions& options) {
  MeasureOptions measure;
  measure.mode = options.measure == "exact"    ? MeasureMode::kExact
                 : options.measure == "subset" ? MeasureMode::kSubset
                                               : MeasureMode::kSampled;
  measure.examples = options.measure_examples;
  measure.draws = options.draws;
  measure.faghri = options.protocol == "faghri";
  measure.per_coordinate = options.per_coordinate;
  measure.max_memory = options.max_memory.bytes;
  return measure;
}

MetaInitOptions metainit_options(const RunOptions& options) {
  MetaInitOptions metainit;
  metainit.steps = options.metainit_steps;
  metainit.batch_size = options.batch_size;
  return metainit;
}

std::string to_toml(const RunOptions& options, bool with_docs) {
  RunOptions copy = options;
  return to_toml(list_options(copy), with_docs);
}

}  // namespace gradist
