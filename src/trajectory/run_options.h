#pragma once

#include "data/augmentation.h"
#include "data/dataset.h"
#include "data/targets.h"
#include "estimators/gradient_estimator.h"
#include "estimators/measurement.h"
#include "estimators/protocol.h"
#include "models/activation.h"
#include "models/batch_norm_policy.h"
#include "models/initialisation.h"
#include "models/metainit.h"
#include "models/network.h"
#include "options.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace gradist {

/// Everything a run is told: `gradist run`, a TOML file, Python's keywords and the trace's
/// attribute `config` are this struct. A resolved one (see resolve_run_options) names the run
/// completely: it reruns bit for bit.
struct RunOptions {
  std::string data = "digits";
  std::string data_dir;
  std::string targets = "classes";
  std::string target_column = "last";
  int64_t train_examples = 0;
  double label_corruption = 0;
  std::string duplicates;
  std::string augment = "none";
  std::string transform_locking = "on";
  std::vector<std::string> hdf5_train = DataOptions().hdf5_train;
  std::vector<std::string> hdf5_test = DataOptions().hdf5_test;
  bool stream = false;

  std::string model = "mlp";
  std::vector<int64_t> hidden = {128};
  double width = 1;
  std::string activation = "relu";
  std::string norm = "none";
  double dropout = 0;
  std::string init = "torch";
  int64_t metainit_steps = 200;
  double label_smoothing = 0;

  int64_t iterations = 2000;
  int64_t batch_size = 64;
  double lr = 0.05;
  double momentum = 0.9;
  double weight_decay = 5e-4;
  std::vector<int64_t> lr_drop;
  double lr_drop_factor = 0.1;
  std::string drive = "none";
  double iterate_averaging = 0;

  std::vector<std::string> estimator = {"sg-b", "sg-2b", "svrg", "gc"};
  bool replacement = true;
  int64_t refresh_every = 500;
  int64_t clusters = 0;
  std::string allocation = "proportional";
  bool balanced = false;
  int64_t gc_iterations = 10;
  std::string gc_centers = "factors";
  int64_t gc_rank = 1;
  std::string gc_start = "k-means++";
  std::string gc_weighting = "running";
  double gc_fraction = 1;
  int64_t gc_minibatch = 0;
  double gc_decay = 0;
  std::vector<std::string> gc_parameters;
  double gc_memory = 4;
  int64_t gc_sketch = 16;
  double importance_mix = 0.25;

  int64_t log_every = 50;
  std::vector<double> log_at;
  int64_t log_at_every = 1;
  int64_t drift_every = 0;
  std::string measure = "exact";
  int64_t measure_examples = 1000;
  int64_t draws = 50;
  std::string protocol = "none";
  bool per_coordinate = false;
  std::string batch_norm = "eval";

  uint64_t seed = 0;
  std::string device = "cpu";
  int64_t threads = 0;
  ByteSize max_memory;
  std::string out = "trace.h5";
  bool overwrite = false;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit);
};

/// What a user asked for: a preset and a config file (either may be empty) and single options as
/// text.
struct RunRequest {
  std::string preset;
  std::string config_file;
  std::vector<std::pair<std::string, std::string>>
      options;                 ///< name (as on the command line), text
  OptionOrigin origin = "--";  ///< how errors introduce a name of `options`
};

/// Defaults < preset < config file < single options, each value checked by its rule. `protocol =
/// "faghri"` implies `measure = "sampled"` where nobody chose another.
RunOptions resolve_run_options(const RunRequest& request);

/// Checks what one option cannot know alone, before any work: every rule again, options that
/// exclude each other, the device, and the place of the trace.
void check_run_options(const RunOptions& options);

/// Checks the options against the sizes of the training set.
void check_sizes(const RunOptions& options, int64_t examples);

/// The same options as the parts of a run want them.
DataOptions data_options(const RunOptions& options);
ModelOptions model_options(const RunOptions& options);
EstimatorOptions estimator_options(const RunOptions& options);
MeasureOptions measure_options(const RunOptions& options);
MetaInitOptions metainit_options(const RunOptions& options);

/// The options as TOML: the trace's `config`, and what --print-config prints.
std::string to_toml(const RunOptions& options, bool with_docs = false);

/// Whether an estimator, by its name, has a snapshot.
bool takes_snapshot(const std::string& estimator);

/// The name for `init` under which weights are drawn as torch does and then scaled by MetaInit, and
/// all names: those of initialisation_names() and this.
inline constexpr const char* kMetaInit = "metainit";
const std::vector<std::string>& run_initialisation_names();

/// Names of the ways to measure.
const std::vector<std::string>& measure_names();

/// The names for `drive`: none, and all estimators.
const std::vector<std::string>& driver_names();

/// Two names: of the inputs and of the targets.
Rule<std::vector<std::string>> places_rule();

/// "n,x": n points, each repeated until the copies make up the fraction x of the training set.
Rule<std::string> duplicates_rule();

template <class Self, class Visitor>
void RunOptions::fields(Self& self, Visitor&& visit) {
  const char* data = "Data";
  visit({"data", "data set", data}, self.data, one_of(data_names()));
  visit({"data-dir", "folder of the data set's own files", data}, self.data_dir,
        anything<std::string>());
  visit({"targets", "what the labels of csv, libsvm and hdf5 are", data}, self.targets,
        one_of(target_names()));
  visit({"target-column", "where csv has its labels", data}, self.target_column,
        one_of({"first", "last"}));
  visit({"train-examples", "training examples to take, at random; 0: all", data},
        self.train_examples, at_least<int64_t>(0));
  visit({"label-corruption", "fraction of training labels changed to another class", data},
        self.label_corruption, in_closed(0.0, 1.0));
  visit({"duplicates", "n,x: n points repeated until they are the fraction x of the training set",
         data},
        self.duplicates, duplicates_rule());
  visit({"augment", "random transforms of training images", data}, self.augment,
        one_of(augmentation_names()));
  visit({"transform-locking",
         "on: transforms and dropout masks change at refreshes only; off: in each pass", data},
        self.transform_locking, one_of({"on", "off"}));
  visit({"hdf5-train", "inputs and targets of hdf5: NAME in its only file, or FILE:NAME", data},
        self.hdf5_train, places_rule());
  visit({"hdf5-test", "those of the test set", data}, self.hdf5_test, places_rule());
  visit({"stream", "leave inputs in their files, for sets larger than memory", data}, self.stream,
        anything<bool>());

  const char* model = "Model";
  visit({"model", "network", model}, self.model, one_of(model_names()));
  visit({"hidden", "widths of the hidden layers (mlp)", model}, self.hidden, each_at_least(1));
  visit({"width", "all widths of a network for images, times this", model}, self.width,
        greater_than(0.0));
  visit({"activation", "between the layers", model}, self.activation, one_of(activation_names()));
  visit({"norm", "batch: batch norm after hidden layers; see batch-norm", model}, self.norm,
        one_of(norm_names()));
  visit({"dropout", "probability of dropout before each linear layer but a first one", model},
        self.dropout, in_half_open(0.0, 1.0));
  visit({"init", "how parameters are drawn: torch's default, He's, or torch's scaled by MetaInit",
         model},
        self.init, one_of(run_initialisation_names()));
  visit({"metainit-steps", "steps of --init metainit, each on a minibatch of noise", model},
        self.metainit_steps, at_least<int64_t>(1));
  visit({"label-smoothing", "mixed into the targets of the cross entropy", model},
        self.label_smoothing, in_half_open(0.0, 1.0));

  const char* training = "Training";
  visit({"iterations", "SGD steps T", training}, self.iterations, at_least<int64_t>(1));
  visit({"batch-size", "examples B of a step and of an estimate", training}, self.batch_size,
        at_least<int64_t>(1));
  visit({"lr", "learning rate", training}, self.lr, greater_than(0.0));
  visit({"momentum", "momentum of SGD", training}, self.momentum, in_half_open(0.0, 1.0));
  visit({"weight-decay", "added by the optimiser, never part of a measured gradient", training},
        self.weight_decay, at_least(0.0));
  visit({"lr-drop", "iterations at which the learning rate drops", training}, self.lr_drop,
        each_at_least(1));
  visit({"lr-drop-factor", "what a drop multiplies the learning rate by", training},
        self.lr_drop_factor, in_half_open_above(0.0, 1.0));

  visit({"drive", "estimator whose draws make the steps; none: minibatches without replacement",
         training},
        self.drive, one_of(driver_names()));
  visit({"iterate-averaging",
         "part of the way between refreshes, at its end, whose mean iterate is the next start; 0: "
         "none",
         training},
        self.iterate_averaging, in_closed(0.0, 1.0));

  const char* estimators = "Estimators";
  visit({"estimator", "gradient estimators to measure", estimators}, self.estimator,
        some_of(estimator_names()));
  visit({"replacement",
         "estimates draw examples with replacement; no: uniform steps are a permutation an epoch",
         estimators},
        self.replacement, anything<bool>());
  visit({"refresh-every", "iterations U between refreshes of snapshot and clusters", estimators},
        self.refresh_every, at_least<int64_t>(1));
  visit({"clusters", "clusters K of gc and gc-descent; 0: as many as the batch size", estimators},
        self.clusters, at_least<int64_t>(0));
  visit({"allocation", "how draws are divided among fewer clusters than draws", estimators},
        self.allocation, one_of(allocation_names()));
  visit(
      {"balanced",
       "clusters of equal size; where K divides N and draws are with replacement, never above sg-b",
       estimators},
      self.balanced, anything<bool>());
  visit({"gc-iterations", "clustering steps a refresh: A + U steps of gc, sweeps of gc-descent",
         estimators},
        self.gc_iterations, at_least<int64_t>(1));
  visit({"gc-centers", "centers of gc: means of factors, or mean gradients cut to a rank by SVD",
         estimators},
        self.gc_centers, one_of(center_names()));
  visit({"gc-rank", "rank of centers by SVD, for each parameter", estimators}, self.gc_rank,
        at_least<int64_t>(1));
  visit({"gc-start", "gc's first centers: single examples, far from each other or any", estimators},
        self.gc_start, one_of(start_names()));
  visit({"gc-weighting",
         "cluster sizes in gc's assignments: running, as last counted (the paper's), or left out",
         estimators},
        self.gc_weighting, one_of(weighting_names()));
  visit({"gc-fraction", "random part of the examples that an A step of gc visits", estimators},
        self.gc_fraction, in_half_open_above(0.0, 1.0));
  visit({"gc-minibatch", "examples between U steps of gc; 0: one U step after each A step",
         estimators},
        self.gc_minibatch, at_least<int64_t>(0));
  visit({"gc-decay", "what a U step of gc keeps of the examples behind the former centers",
         estimators},
        self.gc_decay, in_closed(0.0, 1.0));
  visit({"gc-parameters", "parameters that clustering compares, such as fc*,!*.bias; empty: all",
         estimators},
        self.gc_parameters, anything<std::vector<std::string>>());
  visit({"gc-memory", "weight of the former refresh's gradients in gc-descent", estimators},
        self.gc_memory, at_least(0.0));
  visit({"gc-sketch", "numbers along a side of a parameter in gc-descent's sketch of a gradient",
         estimators},
        self.gc_sketch, at_least<int64_t>(1));
  visit({"importance-mix", "uniform part of draws by norms: gc-importance, sg-importance",
         estimators},
        self.importance_mix, in_half_open_above(0.0, 1.0));

  const char* measuring = "Measuring";
  visit({"log-every", "iterations between measurements", measuring}, self.log_every,
        at_least<int64_t>(1));
  visit({"log-at",
         "measure at these parts of the way to the next refresh instead, such as 0.02,0.11,0.33,1",
         measuring},
        self.log_at, each_in_closed(0.0, 1.0));
  visit({"log-at-every", "log-at: in every n-th interval between refreshes only", measuring},
        self.log_at_every, at_least<int64_t>(1));
  visit({"drift-every",
         "distance and curvature from the snapshot, at each iteration of every n-th interval; 0: "
         "none",
         measuring},
        self.drift_every, at_least<int64_t>(0));
  visit({"measure", "one pass over all examples, over some, or sampled estimates", measuring},
        self.measure, one_of(measure_names()));
  visit({"measure-examples", "examples n of --measure subset", measuring}, self.measure_examples,
        at_least<int64_t>(3));
  visit({"draws", "estimates E of --measure sampled", measuring}, self.draws, at_least<int64_t>(3));
  visit({"protocol",
         "faghri: the normalized variance as the paper computed it (implies --measure sampled)",
         measuring},
        self.protocol, one_of(protocol_names()));
  visit({"per-coordinate",
         "mean and variance of each coordinate of the estimates too, 8 bytes a parameter each",
         measuring},
        self.per_coordinate, anything<bool>());
  visit(
      {"batch-norm",
       "eval: by running statistics; reset: by the batch, these put back after a snapshot; train: "
       "not put back",
       measuring},
      self.batch_norm, one_of(batch_norm_policy_names()));

  const char* run = "Run";
  visit({"seed", "of everything random", run}, self.seed, anything<uint64_t>());
  visit({"device", "where the network lives", run}, self.device, one_of({"cpu", "cuda"}));
  visit({"threads", "CPU threads; 0: by problem size", run}, self.threads, at_least<int64_t>(0));
  visit({"max-memory", "bytes for the factors of a chunk, such as 2G; 0: 256M", run},
        self.max_memory, default_or_at_least(ByteSize{int64_t{1} << 20}));
  visit({"out", "trace to write (HDF5); empty: none", run}, self.out, anything<std::string>());
  visit({"overwrite", "replace an existing trace", run}, self.overwrite, anything<bool>());
}

}  // namespace gradist
