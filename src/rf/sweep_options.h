#pragma once

#include "estimators/protocol.h"
#include "options.h"
#include "rf/estimator_state.h"
#include "rf/problem.h"
#include "rf/random_features.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace gradist::rf {

/// Everything a sweep is told: `gradist rf`, Python's keywords and the file's attribute `config`
/// are this struct. The defaults are the grid of [Faghri20] section 4.2 and appendix C.2, 324
/// models. What the options of group "Run" say changes no number of the result.
struct SweepOptions {
  std::vector<int64_t> n = {100, 178, 316, 562, 1000, 1778, 3162, 5623, 10000};
  std::vector<int64_t> d_in = {100, 10000};
  std::vector<int64_t> h_teacher = {100, 10000};
  std::vector<int64_t> h_student = {1000};
  std::vector<double> duplicates = {0};
  std::vector<int64_t> batch_size = {10};
  std::vector<double> lr = {0.1, 0.01, 0.001};
  std::vector<double> weight_decay = {1e-4};
  std::vector<int64_t> seeds = {0, 1, 2};

  std::string activation = "relu";
  std::string loss = "cross-entropy";
  int64_t logits = 1;
  bool center_labels = true;
  int64_t duplicate_points = 5;
  int64_t test_examples = 1000;

  int64_t iterations = 5000;
  std::vector<std::string> estimators = estimator_names();
  int64_t refresh_every = 1000;
  int64_t gc_iterations = 10;
  double importance_mix = 0.1;

  int64_t log_every = 100;
  std::string measure = "exact";
  int64_t draws = 50;
  std::string protocol = "none";

  int64_t threads = 0;
  std::string out = "sweep.h5";
  bool overwrite = false;
  bool resume = false;
  std::string shard;
  std::vector<std::string> merge;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor&& visit);
};

/// The heading of the options that do not change the result.
inline constexpr const char* kRunGroup = "Run";

/// A point of the grid.
struct ModelPoint {
  int64_t n = 0, d_in = 0, h_teacher = 0, h_student = 0;
  double duplicates = 0;
  int64_t batch_size = 0;
  double lr = 0, weight_decay = 0;
  int64_t seed = 0;
};

/// The axes' lengths, in the order in which the file has them: n, d_in, h_teacher, h_student,
/// duplicates, batch_size, lr, weight_decay, seed.
std::vector<int64_t> grid_shape(const SweepOptions& options);
int64_t models_in(const SweepOptions& options);
ModelPoint model_at(const SweepOptions& options, int64_t index);

/// Iterations 0, n, 2n, ... and the last: where a model is measured.
std::vector<int64_t> log_points(const SweepOptions& options);

/// Models that share features, `d_in` and `seed`, the most expensive first.
struct FeatureGroup {
  FeatureOptions features;
  std::vector<int64_t> models;
};

/// The models named, in groups.
std::vector<FeatureGroup> grouped(const SweepOptions& options, const std::vector<int64_t>& models);

/// The models of `shard` = "i/n", 1 <= i <= n; all of them where it is empty. Shards keep groups
/// together as far as they can.
std::vector<int64_t> models_of_shard(const SweepOptions& options);

/// What a user asked for: a preset and a config file (either may be empty) and single options as
/// text.
struct SweepRequest {
  std::string preset;
  std::string config_file;
  std::vector<std::pair<std::string, std::string>> options;
  OptionOrigin origin = "--";
};

/// Defaults < preset < config file < single options, each checked by its rule. With `resume`, the
/// options of the sweep that is there come in place of the defaults.
SweepOptions resolve_sweep_options(const SweepRequest& request);

/// Checks what one option cannot know alone, before any work.
void check_sweep_options(const SweepOptions& options);

/// All options as TOML, and those that determine the result: the file's `config`.
std::string to_toml(const SweepOptions& options, bool with_docs = false);
std::string config_of(const SweepOptions& options);

/// "i/n", or empty.
Rule<std::string> shard_rule();

template <class Self, class Visitor>
void SweepOptions::fields(Self& self, Visitor&& visit) {
  const char* grid = "Grid (each option a list)";
  visit({"n", "training examples N", grid}, self.n, some_at_least(int64_t{1}));
  visit({"d-in", "dimension of the inputs", grid}, self.d_in, some_at_least(int64_t{1}));
  visit({"h-teacher", "hidden width of the teacher", grid}, self.h_teacher,
        some_at_least(int64_t{1}));
  visit({"h-student", "hidden width of the student", grid}, self.h_student,
        some_at_least(int64_t{1}));
  visit({"duplicates", "fraction of the training set that a few repeated points make up", grid},
        self.duplicates, some_in_half_open(0.0, 1.0));
  visit({"batch-size", "examples B of a step and of an estimate", grid}, self.batch_size,
        some_at_least(int64_t{1}));
  visit({"lr", "learning rate", grid}, self.lr, some_greater_than(0.0));
  visit({"weight-decay", "added by the optimiser, never part of a measured gradient", grid},
        self.weight_decay, some_at_least(0.0));
  visit({"seeds", "of everything random", grid}, self.seeds, some_at_least(int64_t{0}));

  const char* model = "Model";
  visit({"activation", "of teacher and student", model}, self.activation,
        one_of(activation_names()));
  visit({"loss", "of the readout", model}, self.loss, one_of(loss_names()));
  visit({"logits", "1, or 2 for the softmax of two (cross-entropy only)", model}, self.logits,
        in_closed<int64_t>(1, 2));
  visit({"center-labels",
         "yes: labels are the sign of the teacher's output minus its mean over the training set; "
         "no: the sign of the output plus a normal number, as the paper's text says",
         model},
        self.center_labels, anything<bool>());
  visit({"duplicate-points", "how many points are repeated", model}, self.duplicate_points,
        at_least<int64_t>(1));
  visit({"test-examples", "size of the test set", model}, self.test_examples, at_least<int64_t>(1));

  const char* training = "Training";
  visit({"iterations", "SGD steps T", training}, self.iterations, at_least<int64_t>(1));

  const char* estimators = "Estimators";
  visit({"estimators", "gradient estimators to measure", estimators}, self.estimators,
        some_of(estimator_names()));
  visit({"refresh-every", "iterations U between refreshes", estimators}, self.refresh_every,
        at_least<int64_t>(1));
  visit({"gc-iterations", "clustering steps a refresh", estimators}, self.gc_iterations,
        at_least<int64_t>(1));
  visit(
      {"importance-mix", "share of the uniform distribution in that of sg-importance", estimators},
      self.importance_mix, in_half_open_above(0.0, 1.0));

  const char* measuring = "Measuring";
  visit({"log-every", "iterations between measurements", measuring}, self.log_every,
        at_least<int64_t>(1));
  visit({"measure", "exact moments in closed form, or sampled estimates", measuring}, self.measure,
        one_of({"exact", "sampled"}));
  visit({"draws", "estimates E of --measure sampled", measuring}, self.draws, at_least<int64_t>(3));
  visit({"protocol", "faghri: variances as the paper computed them (implies --measure sampled)",
         measuring},
        self.protocol, one_of(protocol_names()));

  visit({"threads", "CPU threads; 0: all", kRunGroup}, self.threads, at_least<int64_t>(0));
  visit({"out", "sweep to write (HDF5)", kRunGroup}, self.out, anything<std::string>());
  visit({"overwrite", "replace an existing sweep", kRunGroup}, self.overwrite, anything<bool>());
  visit({"resume", "compute what an existing sweep still lacks", kRunGroup}, self.resume,
        anything<bool>());
  visit({"shard", "i/n: only the i-th of n parts of the grid", kRunGroup}, self.shard,
        shard_rule());
  visit({"merge", "sweeps of the same grid, to be put together in --out; nothing is computed",
         kRunGroup},
        self.merge, anything<std::vector<std::string>>());
}

}  // namespace gradist::rf
