#include "trajectory/sgd_trajectory.h"

#include "estimators/svrg.h"
#include "gradients/partial_source.h"
#include "models/network_source.h"
#include "trajectory/device.h"
#include "trajectory/epoch_sampler.h"
#include "trajectory/interruptible_source.h"
#include "trajectory/iterate_average.h"
#include "trajectory/log_points.h"
#include "trajectory/network_of_run.h"
#include "trajectory/parameter_hash.h"
#include "trajectory/random_streams.h"
#include "trajectory/trace_writer.h"
#include "trajectory/transform_keys.h"

#include <ATen/ops/full.h>
#include <c10/util/Exception.h>
#include <torch/optim/sgd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

namespace gradist {

namespace {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

double squared_norm(const ParameterList& list) {
  double sum = 0;
  for (const auto& tensor : list) {
    sum += tensor.detach().to(at::kDouble).square().sum().item<double>();
  }
  return sum;
}

/// ||a - b||
double distance(const ParameterList& a, const ParameterList& b) {
  double sum = 0;
  for (size_t l = 0; l < a.size(); ++l) {
    sum += (a[l].detach().to(at::kDouble) - b[l].to(at::kDouble)).square().sum().item<double>();
  }
  return std::sqrt(sum);
}

/// Six operations for each multiply-add of an example's forward pass: its two, and twice that
/// backward.
double flops_per_step(const RunOptions& options, const Network& network) {
  return 6.0 * static_cast<double>(options.batch_size) *
         static_cast<double>(network.multiplications());
}

/// While it lives, the network is as the option `batch-norm` measures it, and its running
/// statistics may move; then it is in eval mode. They come back unless a pass over a snapshot is to
/// keep them.
class MeasuredPass {
 public:
  MeasuredPass(Network& network, const RunOptions& options, bool keeps_statistics = true) {
    if (options.batch_norm != "eval") {
      if (keeps_statistics) {
        statistics_.emplace(network);
      }
      mode_.emplace(network);
    }
  }

 private:
  std::optional<KeptStatistics> statistics_;
  std::optional<TrainMode> mode_;
};

/// One pass through the loop of a trajectory: the state that changes from step to step.
class Loop {
 public:
  Loop(const RunInfo& info, NetworkSource& source, const Dataset& test,
       std::vector<Observer*> observers)
      : info_(info),
        options_(info.options),
        observers_(std::move(observers)),
        network_source_(source),
        source_(source, [this] { return wants_stop(); }),
        test_(test),
        optimizer_(source.parameters(), torch::optim::SGDOptions(options_.lr)
                                            .momentum(options_.momentum)
                                            .weight_decay(options_.weight_decay)),
        batches_per_epoch_(info.examples / options_.batch_size),
        plain_design_(uniform_design(info.examples, options_.batch_size, /*replacement=*/false)),
        training_(stream_generator(options_.seed, RandomStream::kTraining)),
        average_(options_.iterate_averaging, options_.refresh_every),
        measuring_(stream_generator(options_.seed, RandomStream::kMeasuring)),
        log_points_(log_points(options_)) {
    for (const auto& name : options_.estimator) {
      estimators_.push_back(make_estimator(name, estimator_options(options_), info.examples));
      driver_ = name == options_.drive ? estimators_.back().get() : driver_;
    }
  }

  RunResult run() {
    for (auto* observer : observers_) {
      observer->begin(info_);
    }
    try {
      walk();
    } catch (const detail::RunStopped&) {
      result_.stopped = true;
    }
    for (auto* observer : observers_) {
      observer->end();
    }
    result_.seconds = watch_.seconds();
    return result_;
  }

 private:
  bool wants_stop() const {
    return std::any_of(observers_.begin(), observers_.end(),
                       [](Observer* observer) { return observer->wants_stop(); });
  }

  void walk() {
    scale_initial_weights(options_, network_source_, [this](int64_t step, double quotient) {
      for (auto* observer : observers_) {
        observer->initialised({step, options_.metainit_steps, quotient});
      }
      if (wants_stop()) {
        throw detail::RunStopped();
      }
    });
    look();
    while (result_.iterations < options_.iterations) {
      step();
      look();
      for (auto* observer : observers_) {
        observer->progressed(result_.iterations, options_.iterations);
      }
      if (wants_stop()) {
        throw detail::RunStopped();
      }
    }
  }

  /// What is due before the next step: learning rate, mean iterate, refresh, measurement, in this
  /// order.
  void look() {
    const int64_t iteration = result_.iterations;
    const bool refresh_is_due = iteration % options_.refresh_every == 0;
    const bool log_is_due = log_points_.at(logged_) == iteration;
    drop_learning_rate();
    if (refresh_is_due) {
      average_.move_to_mean(source_.parameters());
    }
    if (refresh_is_due || log_is_due) {
      check_finite("parameters", squared_norm(source_.parameters()));
    }
    if (refresh_is_due) {
      refresh();
    }
    if (log_is_due) {
      log();
      ++logged_;
    }
    if (follows_drift(options_, iteration)) {
      follow_drift();
    }
  }

  /// Chooses the transforms and masks of the passes to come.
  void set_key(Pass pass, int64_t number) {
    const int64_t refresh = result_.iterations / options_.refresh_every;
    network_source_.set_key(
        transform_key(options_.transform_locking == "on", refresh, pass, number));
  }

  void step() {
    const ParameterList gradient = next_gradient();
    const ParameterList& parameters = source_.parameters();
    for (size_t l = 0; l < parameters.size(); ++l) {
      parameters[l].mutable_grad() = gradient[l];
    }
    optimizer_.step();
    ++result_.iterations;
    average_.add(result_.iterations, parameters);
  }

  /// In train mode: by the statistics of the batch where there is batch norm.
  ParameterList next_gradient() {
    const TrainMode train_mode(network_source_.network());
    set_key(Pass::kTraining, result_.iterations / batches_per_epoch_);
    const WeightedBatch batch = next_batch();
    return driver_ != nullptr ? driver_->estimate(source_, batch)
                              : source_.weighted_gradient(batch.indices, batch.weights);
  }

  /// Uniform draws without replacement go through all examples before one comes again, whether a
  /// driver's or those of plain steps; others are drawn anew.
  WeightedBatch next_batch() {
    const SamplingDesign& design = driver_ != nullptr ? driver_->design() : plain_design_;
    if (design.replacement || !design.is_uniform()) {
      return design.draw(training_);
    }
    if (!sampler_) {
      sampler_.emplace(info_.examples, design.draws(), training_);
    }
    return {sampler_->next(),
            at::full({design.draws()}, design.strata.front().weight, at::kDouble)};
  }

  torch::optim::OptimizerOptions& optimizer_options() {
    return optimizer_.param_groups().front().options();
  }

  void drop_learning_rate() {
    const auto drops =
        std::count(options_.lr_drop.begin(), options_.lr_drop.end(), result_.iterations);
    if (drops > 0) {
      optimizer_options().set_lr(optimizer_options().get_lr() * options_.lr_drop_factor);
    }
  }

  void refresh() {
    set_key(Pass::kRefresh, result_.iterations / options_.refresh_every);
    const MeasuredPass pass(network_source_.network(), options_, options_.batch_norm == "reset");
    for (const auto& estimator : estimators_) {
      const Stopwatch watch;
      RefreshEvent event;
      event.gradient_evaluations = estimator->refresh(source_, measuring_);
      event.seconds = watch.seconds();
      event.estimator = estimator->name();
      event.iteration = result_.iterations;
      event.clustering = estimator->clustering();
      if (event.gradient_evaluations > 0) {
        for (auto* observer : observers_) {
          observer->refreshed(event);
        }
      }
    }
  }

  void log() {
    TrajectoryStep step;
    step.iteration = result_.iterations;
    step.epoch = static_cast<double>(result_.iterations) / static_cast<double>(batches_per_epoch_);
    step.learning_rate = optimizer_options().get_lr();
    step.parameter_hash = parameter_hash(source_.parameters());
    evaluate(step);
    measure(step);
    step.seconds = watch_.seconds();
    for (auto* observer : observers_) {
      observer->logged(step);
    }
    result_.last = std::move(step);
  }

  void evaluate(TrajectoryStep& step) const {
    const Evaluation train = network_source_.evaluate(network_source_.data());
    check_finite("training loss", train.loss);
    const Evaluation test = network_source_.evaluate(test_);
    step.train_loss = train.loss;
    step.train_accuracy = train.accuracy;
    step.test_loss = test.loss;
    step.test_accuracy = test.accuracy;
  }

  void measure(TrajectoryStep& step) {
    std::vector<const GradientEstimator*> estimators;
    std::transform(estimators_.begin(), estimators_.end(), std::back_inserter(estimators),
                   [](const auto& estimator) { return estimator.get(); });
    set_key(Pass::kMeasuring, result_.iterations);
    const MeasuredPass pass(network_source_.network(), options_);
    Measurement measurement =
        gradist::measure(source_, estimators, measure_options(options_), measuring_);
    // A finite loss may have gradients that are not, whose variances would look like zeros.
    check_finite("gradient", squared_norm(measurement.full_gradient));
    step.estimators = options_.estimator;
    step.moments = std::move(measurement.moments);
    step.squared_norms = measurement.squared_norms;
    step.squared_gradient_norm = measurement.squared_gradient_norm;
    compare_with_snapshot(measurement.full_gradient, step);
    if (options_.per_coordinate) {
      step.full_gradient = std::move(measurement.full_gradient);
    }
  }

  /// The first estimator that has a snapshot, or null.
  const GradientEstimator* with_snapshot() const {
    const auto found =
        std::find_if(estimators_.begin(), estimators_.end(),
                     [](const auto& estimator) { return estimator->snapshot() != nullptr; });
    return found == estimators_.end() ? nullptr : found->get();
  }

  void follow_drift() {
    set_key(Pass::kDrift, result_.iterations);
    const MeasuredPass pass(network_source_.network(), options_);
    const GradientEstimator& estimator = *with_snapshot();
    const Snapshot& snapshot = *estimator.snapshot();
    const auto batch = estimator.draw(measuring_);
    const auto gradient_here = source_.weighted_gradient(batch.indices, batch.weights);
    const auto gradient_there = [&] {
      const AtSnapshot there(source_, snapshot);
      return source_.weighted_gradient(batch.indices, batch.weights);
    }();
    DriftStep step;
    step.iteration = result_.iterations;
    step.since_snapshot = result_.iterations % options_.refresh_every;
    step.distance = distance(source_.parameters(), snapshot.parameters);
    step.curvature = distance(gradient_here, gradient_there) / step.distance;
    for (auto* observer : observers_) {
      observer->drifted(step);
    }
  }

  void compare_with_snapshot(const ParameterList& full_gradient, TrajectoryStep& step) {
    if (with_snapshot() == nullptr) {
      return;
    }
    const Snapshot& snapshot = *with_snapshot()->snapshot();
    step.distance_to_snapshot = distance(source_.parameters(), snapshot.parameters);
    if (step.distance_to_snapshot == 0 || full_gradient.empty()) {
      return;
    }
    // The draws of a measurement say less of it than the minibatches that made g~ do here.
    const bool by_minibatches = options_.drift_every > 0 && snapshot.order.defined();
    step.snapshot_curvature =
        distance(by_minibatches
                     ? gradient_by_minibatches(source_, snapshot.order, options_.batch_size)
                     : full_gradient,
                 snapshot.gradient) /
        step.distance_to_snapshot;
  }

  void check_finite(const char* what, double value) const {
    TORCH_CHECK_VALUE(std::isfinite(value), "lr = ", options_.lr, ", must be smaller: the ", what,
                      " grew beyond all numbers before iteration ", result_.iterations);
  }

  const RunInfo& info_;
  const RunOptions& options_;
  std::vector<Observer*> observers_;
  NetworkSource& network_source_;
  detail::InterruptibleSource source_;
  const Dataset& test_;
  torch::optim::SGD optimizer_;
  int64_t batches_per_epoch_;    ///< of B examples, however many a driver draws
  SamplingDesign plain_design_;  ///< of steps without a driver
  at::Generator training_;
  std::optional<EpochSampler> sampler_;  ///< of the first step on; draws from training_
  IterateAverage average_;
  at::Generator measuring_;
  std::vector<int64_t> log_points_;
  size_t logged_ = 0;  ///< of them
  std::vector<std::unique_ptr<GradientEstimator>> estimators_;
  const GradientEstimator* driver_ = nullptr;  ///< one of them, or null
  Stopwatch watch_;
  RunResult result_;
};

}  // namespace

struct SgdTrajectory::Parts {
  RunInfo info;
  Dataset test;
  std::unique_ptr<NetworkSource> source;
};

SgdTrajectory::SgdTrajectory(const RunOptions& options) : parts_(std::make_unique<Parts>()) {
  check_run_options(options);
  DataSplit data = load_data(data_options(options));
  check_sizes(options, data.train.size());
  parts_->source = network_of_run(options, data.train);
  parts_->test = data.test.to(at::Device(options.device), at::kFloat);

  const Network& network = parts_->source->network();
  RunInfo& info = parts_->info;
  info.options = options;
  info.model = network.describe();
  info.parameter_names = parts_->source->parameter_names();
  for (const auto& parameter : parts_->source->parameters()) {
    info.parameter_shapes.push_back(parameter.sizes().vec());
  }
  chosen_parameters(info.parameter_names, options.gc_parameters);  // refuses what matches nothing
  info.parameters = parts_->source->parameter_count();
  info.examples = data.train.size();
  info.test_examples = data.test.size();
  info.log_points = static_cast<int64_t>(log_points(options).size());
  if (options.threads == 0) {
    info.options.threads = threads_for(flops_per_step(options, network));
  }
}

SgdTrajectory::~SgdTrajectory() = default;

const RunInfo& SgdTrajectory::info() const { return parts_->info; }

RunResult SgdTrajectory::run(const std::vector<Observer*>& observers) {
  TORCH_CHECK_VALUE(parts_->source != nullptr, "a trajectory, must be run once");
  const auto source = std::move(parts_->source);
  const RunOptions& options = parts_->info.options;
  const ThreadScope threads(options.threads);
  TraceWriter writer(options.out, options.overwrite);
  std::vector<Observer*> all = observers;
  if (!options.out.empty()) {
    all.insert(all.begin(), &writer);
  }
  return Loop(parts_->info, *source, parts_->test, std::move(all)).run();
}

RunResult run(const RunOptions& options, const std::vector<Observer*>& observers) {
  return SgdTrajectory(options).run(observers);
}

}  // namespace gradist
