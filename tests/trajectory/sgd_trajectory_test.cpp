#include "trajectory/sgd_trajectory.h"

#include "data/files.h"
#include "models/network_source.h"
#include "support/value_error.h"
#include "trajectory/device.h"
#include "trajectory/epoch_sampler.h"
#include "trajectory/network_of_run.h"
#include "trajectory/parameter_hash.h"
#include "trajectory/random_streams.h"
#include "trajectory/transform_keys.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <functional>

namespace gradist {
namespace {

/// A run of a second: logistic regression on the digits, no trace.
RunOptions small_run() {
  RunOptions options;
  options.model = "logistic";
  options.iterations = 10;
  options.batch_size = 32;
  options.log_every = 4;
  options.refresh_every = 5;
  options.gc_iterations = 1;
  options.threads = 1;
  options.out.clear();
  return options;
}

/// Keeps what it was told, as lines and as steps.
class Recorder : public Observer {
 public:
  void begin(const RunInfo& info) override { lines.push_back("begin " + info.model); }
  void initialised(const InitialisationStep& step) override {
    lines.push_back("metainit " + std::to_string(step.step) + " of " + std::to_string(step.steps));
    quotients.push_back(step.quotient);
    scaled = step.step;
  }
  void refreshed(const RefreshEvent& event) override {
    lines.push_back("refresh " + event.estimator + " " + std::to_string(event.iteration));
  }
  void logged(const TrajectoryStep& step) override {
    lines.push_back("log " + std::to_string(step.iteration));
    steps.push_back(step);
  }
  void drifted(const DriftStep& step) override { drift.push_back(step); }
  void progressed(int64_t iteration, int64_t) override { done = iteration; }
  bool wants_stop() override { return done >= stop_after || scaled >= stop_after; }
  void end() override { lines.emplace_back("end"); }

  std::vector<uint64_t> hashes() const {
    std::vector<uint64_t> hashes;
    for (const auto& step : steps) {
      hashes.push_back(step.parameter_hash);
    }
    return hashes;
  }

  std::vector<std::string> lines;
  std::vector<TrajectoryStep> steps;
  std::vector<DriftStep> drift;
  std::vector<double> quotients;
  int64_t done = 0, scaled = 0;
  int64_t stop_after = std::numeric_limits<int64_t>::max();
};

Recorder recorded(const RunOptions& options) {
  Recorder recorder;
  run(options, {&recorder});
  return recorder;
}

TEST(SgdTrajectoryTest, TellsObserversInOrder) {
  EXPECT_EQ(recorded(small_run()).lines,
            (std::vector<std::string>{"begin logistic 64-10", "refresh svrg 0", "refresh gc 0",
                                      "log 0", "log 4", "refresh svrg 5", "refresh gc 5", "log 8",
                                      "refresh svrg 10", "refresh gc 10", "log 10", "end"}));
}

/// A run without replacement of seven plain steps by `drive`, an epoch being four batches of B, and
/// a refresh before the first of them only.
RunOptions driven_run(const std::string& drive) {
  RunOptions options = small_run();
  options.estimator = {drive};
  options.drive = drive;
  options.replacement = false;
  options.batch_size = 900;
  options.clusters = 4;
  options.momentum = 0;
  options.weight_decay = 0;
  options.iterations = 7;
  options.refresh_every = 10;
  return options;
}

using NextBatch = std::function<WeightedBatch(const GradientEstimator&)>;

/// The hash of the parameters to which the driver's estimates on the given batches lead.
uint64_t driven_by_hand(const RunOptions& options, const NextBatch& next) {
  const ThreadScope threads(options.threads);
  const DataSplit data = load_data(data_options(options));
  const auto source = network_of_run(options, data.train);
  const auto driver = make_estimator(options.drive, estimator_options(options), source->examples());
  at::Generator measuring = stream_generator(options.seed, RandomStream::kMeasuring);
  for (int64_t t = 0; t < options.iterations; ++t) {
    if (t % options.refresh_every == 0) driver->refresh(*source, measuring);
    const ParameterList gradient = driver->estimate(*source, next(*driver));
    const at::NoGradGuard no_grad;
    for (size_t l = 0; l < gradient.size(); ++l) {
      source->parameters()[l].sub_(gradient[l], options.lr);
    }
  }
  return parameter_hash(source->parameters());
}

// Drawn by its design and the training generator, refreshed on the way.
class DrivenBy : public ::testing::TestWithParam<std::string> {};

TEST_P(DrivenBy, TakesTheStepsOfItsEstimates) {
  RunOptions options = driven_run(GetParam());
  options.replacement = true;
  options.refresh_every = 5;
  at::Generator training = stream_generator(options.seed, RandomStream::kTraining);
  const auto hashes = recorded(options).hashes();
  EXPECT_EQ(hashes.back(), driven_by_hand(options, [&](const GradientEstimator& driver) {
              return driver.draw(training);
            }));

  options.drive = "none";
  EXPECT_NE(recorded(options).hashes().back(), hashes.back());
}

INSTANTIATE_TEST_SUITE_P(Estimators, DrivenBy,
                         ::testing::Values("svrg", "gc", "gc-descent", "gc-importance",
                                           "sg-importance"),
                         [](const auto& driver) {
                           auto name = driver.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

// Each example once before one comes again, like plain steps; epochs are counted by B all the same.
TEST(SgdTrajectoryTest, UniformStepsWithoutReplacementGoThroughAPermutationAnEpoch) {
  const int64_t examples = SgdTrajectory(small_run()).info().examples;
  for (const std::string drive : {"svrg", "sg-b", "sg-2b"}) {
    const RunOptions options = driven_run(drive);
    const int64_t draws = options.batch_size * (drive == "sg-2b" ? 2 : 1);
    at::Generator training = stream_generator(options.seed, RandomStream::kTraining);
    const at::Tensor weights = at::full({draws}, 1.0 / static_cast<double>(draws), at::kDouble);
    std::vector<at::Tensor> batches;
    const auto by_hand = driven_by_hand(options, [&](const GradientEstimator&) {
      if (batches.empty()) {
        batches = at::randperm(examples, training, at::kLong).split(draws);
        batches.resize(static_cast<size_t>(examples / draws));
        std::reverse(batches.begin(), batches.end());
      }
      const at::Tensor batch = batches.back();
      batches.pop_back();
      return WeightedBatch{batch, weights};
    });
    const TrajectoryStep last = recorded(options).steps.back();
    EXPECT_EQ(last.parameter_hash, by_hand) << drive;
    EXPECT_EQ(last.epoch, 7.0 / 4) << drive;
  }
}

TEST(SgdTrajectoryTest, StratifiedStepsWithoutReplacementAreDrawnAnew) {
  const RunOptions options = driven_run("gc");
  at::Generator training = stream_generator(options.seed, RandomStream::kTraining);
  EXPECT_EQ(recorded(options).hashes().back(),
            driven_by_hand(options, [&](const auto& gc) { return gc.draw(training); }));
}

TEST(SgdTrajectoryTest, PlainStepsAreThoseOfSgBWithoutReplacement) {
  RunOptions options = driven_run("sg-b");
  const auto driven = recorded(options).hashes();
  options.drive = "none";
  EXPECT_EQ(recorded(options).hashes(), driven);
}

// svrg's batch of all examples corrects the snapshot's gradient to the full one, exactly.
TEST(SgdTrajectoryTest, AllExamplesAtOnceAreGradientDescent) {
  RunOptions options = driven_run("svrg");
  options.batch_size = static_cast<int64_t>(SgdTrajectory(small_run()).info().examples);
  const auto svrg = recorded(options).steps.back();
  options.drive = "none";
  EXPECT_NEAR(svrg.train_loss, recorded(options).steps.back().train_loss, 1e-6);
}

/// Plain steps of a run as their formula has them.
class SgdByHand {
 public:
  explicit SgdByHand(const RunOptions& options)
      : data(load_data(data_options(options))),
        source(network_of(options, data.train), data.train, Loss::kCrossEntropy),
        options_(options),
        sampler_(source.examples(), options.batch_size,
                 stream_generator(options.seed, RandomStream::kTraining)),
        weights_(at::full({options.batch_size}, 1.0 / static_cast<double>(options.batch_size),
                          at::kDouble)) {}

  void step(double lr) {
    const ParameterList gradient = source.weighted_gradient(sampler_.next(), weights_);
    const at::NoGradGuard no_grad;
    for (size_t l = 0; l < gradient.size(); ++l) {
      const at::Tensor& parameter = source.parameters()[l];
      const at::Tensor force = gradient[l] + options_.weight_decay * parameter;
      if (velocity_.size() == l) {
        velocity_.push_back(force);
      } else {
        velocity_[l] = options_.momentum * velocity_[l] + force;
      }
      parameter.sub_(lr * velocity_[l]);
    }
  }

  ParameterList iterate() const {
    ParameterList copies;
    for (const at::Tensor& parameter : source.parameters()) {
      copies.push_back(parameter.detach().to(at::kDouble));
    }
    return copies;
  }

  int64_t batches_per_epoch() const { return sampler_.batches_per_epoch(); }

  DataSplit data;
  NetworkSource source;

 private:
  static std::shared_ptr<Network> network_of(const RunOptions& options, const Dataset& train) {
    at::Generator generator = stream_generator(options.seed, RandomStream::kInitialisation);
    return make_network(model_options(options), train.example_shape(), train.outputs(), generator);
  }

  RunOptions options_;
  EpochSampler sampler_;
  at::Tensor weights_;
  ParameterList velocity_;
};

TEST(SgdTrajectoryTest, TakesTheStepsOfItsFormula) {
  RunOptions options = small_run();
  options.estimator = {"sg-b"};
  options.lr_drop = {6};
  SgdByHand by_hand(options);
  for (int64_t t = 0; t < options.iterations; ++t) {
    by_hand.step(t < 6 ? options.lr : 0.1 * options.lr);
  }
  const TrajectoryStep last = recorded(options).steps.back();
  EXPECT_NEAR(last.train_loss, by_hand.source.evaluate(by_hand.data.train).loss, 1e-6);
  EXPECT_NEAR(last.test_loss, by_hand.source.evaluate(by_hand.data.test).loss, 1e-6);
  EXPECT_DOUBLE_EQ(last.learning_rate, 0.1 * options.lr);
  EXPECT_DOUBLE_EQ(last.epoch, 10.0 / static_cast<double>(by_hand.batches_per_epoch()));
}

/// Ten steps of small_run(); before iterations 5 and 10 the parameters become the mean, in float64,
/// of the last `averaged` iterates. Returns the training loss.
double loss_by_hand(const RunOptions& options, int64_t averaged) {
  SgdByHand by_hand(options);
  std::vector<ParameterList> iterates;
  for (int64_t t = 1; t <= options.iterations; ++t) {
    by_hand.step(options.lr);
    iterates.push_back(by_hand.iterate());
    if (t % options.refresh_every != 0 || averaged == 0) continue;
    const at::NoGradGuard no_grad;
    for (size_t l = 0; l < iterates.back().size(); ++l) {
      at::Tensor sum = at::zeros_like(iterates.back()[l]);
      for (int64_t back = 0; back < averaged; ++back) {
        sum += iterates[static_cast<size_t>(t - 1 - back)][l];
      }
      by_hand.source.parameters()[l].copy_(sum / static_cast<double>(averaged));
    }
  }
  return by_hand.source.evaluate(by_hand.data.train).loss;
}

TEST(SgdTrajectoryTest, GoesOnFromTheMeanIterate) {
  RunOptions options = small_run();
  options.estimator = {"sg-b"};
  const double off = loss_by_hand(options, 0);
  EXPECT_NEAR(recorded(options).steps.back().train_loss, off, 1e-6);
  for (const auto& [share, averaged] : {std::pair{1.0, 5}, {0.5, 3}, {0.2, 1}}) {
    options.iterate_averaging = share;
    const double by_hand = loss_by_hand(options, averaged);
    EXPECT_NEAR(recorded(options).steps.back().train_loss, by_hand, 1e-6) << share;
    if (averaged > 1) {
      EXPECT_GT(std::abs(by_hand - off), 1e-3) << share << ": the test would tell them apart";
    }
  }
}

TEST(SgdTrajectoryTest, TheMeanOfOneIterateChangesNothing) {
  RunOptions options = small_run();
  const auto off = recorded(options).hashes();
  options.iterate_averaging = 1e-6;
  EXPECT_EQ(recorded(options).hashes(), off);
  options.iterate_averaging = 0.5;
  EXPECT_NE(recorded(options).hashes().back(), off.back());
}

TEST(SgdTrajectoryTest, TheSnapshotIsTakenAtTheMeanIterate) {
  RunOptions options = small_run();
  options.estimator = {"svrg"};
  options.drive = "svrg";
  options.iterate_averaging = 1;
  options.log_every = 1;
  const Recorder recorder = recorded(options);
  for (const size_t refresh : {5U, 10U}) {
    EXPECT_EQ(recorder.steps[refresh].distance_to_snapshot, 0);
    EXPECT_EQ(recorder.steps[refresh].moments[0].variance_ratio, 0);
  }
  options.log_every = 10;
  EXPECT_EQ(recorded(options).hashes().back(), recorder.hashes().back())
      << "measuring never moves the trajectory";
}

RunOptions run_from_metainit() {
  RunOptions options = small_run();
  options.model = "mlp";
  options.hidden = {8};
  options.estimator = {"sg-b"};
  options.init = "metainit";
  options.metainit_steps = 3;
  return options;
}

TEST(SgdTrajectoryTest, BeginsWithMetaInitWhereAsked) {
  const RunOptions options = run_from_metainit();
  const Recorder recorder = recorded(options);
  EXPECT_EQ(std::vector(recorder.lines.begin(), recorder.lines.begin() + 6),
            (std::vector<std::string>{"begin mlp 64-8-10", "metainit 0 of 3", "metainit 1 of 3",
                                      "metainit 2 of 3", "metainit 3 of 3", "log 0"}));
  const auto train = load_data(data_options(options)).train;
  const auto source = network_of_run(options, train);
  const ThreadScope threads(options.threads);
  std::vector<double> quotients;
  scale_initial_weights(options, *source,
                        [&](int64_t, double quotient) { quotients.push_back(quotient); });
  EXPECT_EQ(recorder.quotients, quotients);
  EXPECT_EQ(recorder.steps.front().parameter_hash, parameter_hash(source->parameters()));
  EXPECT_EQ(recorded(options).hashes(), recorder.hashes());

  RunOptions without = options;
  without.init = "torch";
  const Recorder plain = recorded(without);
  EXPECT_TRUE(plain.quotients.empty());
  EXPECT_NE(plain.hashes().front(), recorder.hashes().front());
}

TEST(SgdTrajectoryTest, StopsInsideMetaInit) {
  Recorder recorder;
  recorder.stop_after = 2;
  const RunResult result = run(run_from_metainit(), {&recorder});
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.iterations, 0);
  EXPECT_FALSE(result.last.has_value());
  EXPECT_EQ(recorder.lines.back(), "end");
}

TEST(SgdTrajectoryTest, LowersTheLossItTrainsOn) {
  RunOptions options = small_run();
  options.iterations = 100;
  options.log_every = 100;
  options.estimator = {"sg-b"};
  const Recorder recorder = recorded(options);
  EXPECT_LT(recorder.steps.back().train_loss, 0.5 * recorder.steps.front().train_loss);
  EXPECT_GT(recorder.steps.back().test_accuracy, 0.8);
}

TEST(SgdTrajectoryTest, MeasuringNeverMovesTheTrajectory) {
  RunOptions options = small_run();
  const Recorder four = recorded(options);
  options.estimator = {"sg-b"};
  EXPECT_EQ(recorded(options).hashes(), four.hashes());
  options.measure = "sampled";
  options.draws = 3;
  EXPECT_EQ(recorded(options).hashes(), four.hashes());
  options.log_every = 2;
  EXPECT_EQ(recorded(options).hashes().back(), four.hashes().back());
}

TEST(SgdTrajectoryTest, TheSeedIsTheRun) {
  RunOptions options = small_run();
  const Recorder first = recorded(options);
  const Recorder again = recorded(options);
  EXPECT_EQ(first.hashes(), again.hashes());
  for (size_t i = 0; i < first.steps.size(); ++i) {
    for (size_t e = 0; e < first.steps[i].moments.size(); ++e) {
      EXPECT_EQ(first.steps[i].moments[e].average_variance,
                again.steps[i].moments[e].average_variance);
    }
  }
  options.seed = 1;
  EXPECT_NE(recorded(options).hashes(), first.hashes());
}

TEST(SgdTrajectoryTest, MeasuresAgainstTheSnapshot) {
  const Recorder recorder = recorded(small_run());
  const TrajectoryStep& fresh = recorder.steps[0];
  EXPECT_EQ(fresh.distance_to_snapshot, 0);
  EXPECT_TRUE(std::isnan(fresh.snapshot_curvature)) << "nothing to divide by";
  const TrajectoryStep& stale = recorder.steps[1];
  EXPECT_GT(stale.distance_to_snapshot, 0);
  EXPECT_GT(stale.snapshot_curvature, 0);
  EXPECT_EQ(stale.squared_norms.numel(), 3823);

  RunOptions without = small_run();
  without.estimator = {"sg-b", "gc"};
  EXPECT_TRUE(std::isnan(recorded(without).steps[1].distance_to_snapshot));
}

TEST(SgdTrajectoryTest, GradientClusteringIsNeverAboveSgBRightAfterARefresh) {
  RunOptions options = small_run();
  options.iterations = 40;
  options.log_every = options.refresh_every = 20;
  for (const auto& step : recorded(options).steps) {
    EXPECT_LE(step.moments[3].average_variance, step.moments[0].average_variance * (1 + 1e-9))
        << step.iteration;
    EXPECT_NEAR(step.moments[1].average_variance, step.moments[0].average_variance / 2, 1e-12);
    EXPECT_NEAR(step.moments[2].average_variance, 0, 1e-12) << "svrg at its snapshot";
  }
}

/// Runs of a narrow ResNet on sixty noisy images that change their looks.
class DeepRuns : public ::testing::Test {
 protected:
  DeepRuns() {
    write_images("train", 60);
    write_images("t10k", 20);
  }

  RunOptions deep_run() const {
    RunOptions options = small_run();
    options.data = "mnist";
    options.data_dir = folder_.string();
    options.model = "resnet8";
    options.width = 0.25;
    options.batch_size = 8;
    options.augment = "crop-flip";
    options.estimator = {"sg-b", "svrg"};
    options.iterations = 8;
    options.log_every = options.refresh_every = 4;
    return options;
  }

  /// The last log point, as a policy has it.
  TrajectoryStep last_step(const std::string& policy, const std::string& drive) const {
    RunOptions options = deep_run();
    options.norm = "batch";
    options.measure = "sampled";
    options.draws = 5;
    options.drift_every = 1;
    options.batch_norm = policy;
    options.drive = drive;
    return recorded(options).steps.back();
  }

 private:
  void write_images(const std::string& name, size_t count) const {
    constexpr uint32_t kSide = 10;
    std::vector<uint8_t> pixels(count * kSide * kSide), labels(count);
    uint32_t state = 1;
    for (auto& pixel : pixels) {
      state = state * 1664525 + 1013904223;
      pixel = static_cast<uint8_t>(state >> 24);
    }
    for (size_t i = 0; i < count; ++i) labels[i] = static_cast<uint8_t>(i % 10);
    test::write_file(folder_ / (name + "-images-idx3-ubyte"),
                     test::idx_images(pixels, kSide, kSide));
    test::write_file(folder_ / (name + "-labels-idx1-ubyte"), test::idx_labels(labels));
  }

  test::TemporaryFolder folder_;
};

TEST_F(DeepRuns, LockedTransformsLeaveSvrgNoVarianceAtItsSnapshot) {
  RunOptions options = deep_run();
  for (const char* norm : {"none", "batch"}) {
    options.norm = norm;
    options.transform_locking = "on";
    for (const auto& step : recorded(options).steps) {
      EXPECT_EQ(step.moments[1].variance_ratio, 0) << norm << step.iteration;
      EXPECT_EQ(step.moments[1].trace_covariance, 0) << norm << step.iteration;
    }
    options.transform_locking = "off";
    for (const auto& step : recorded(options).steps) {
      EXPECT_GT(step.moments[1].variance_ratio, 0) << norm << step.iteration;
    }
  }
}

TEST_F(DeepRuns, TransformsAreNoPartOfOtherRuns) {
  RunOptions options = deep_run();
  options.augment = "none";
  const auto plain = recorded(options).hashes();
  options.transform_locking = "off";
  EXPECT_EQ(recorded(options).hashes(), plain);
  options.augment = "crop-flip";
  const auto transformed = recorded(options).hashes();
  EXPECT_EQ(transformed.front(), plain.front()) << "same initialisation";
  EXPECT_NE(transformed.back(), plain.back());
  options.estimator = {"sg-b"};
  EXPECT_EQ(recorded(options).hashes(), transformed) << "measuring never moves the trajectory";
}

// Locked, the looks are those of the last refresh; else each epoch of seven batches has its own.
TEST_F(DeepRuns, StepsSeeTheLooksOfTheLastRefreshOrOfTheirEpoch) {
  RunOptions options = deep_run();
  options.iterations = 16;
  options.momentum = 0;
  options.weight_decay = 0;
  const ThreadScope threads(options.threads);
  const Dataset train = load_data(data_options(options)).train;
  const auto by_hand = [&](const std::function<uint64_t(int64_t)>& key) {
    const auto source = network_of_run(options, train);
    EpochSampler sampler(train.size(), options.batch_size,
                         stream_generator(options.seed, RandomStream::kTraining));
    const at::Tensor weights =
        at::full({options.batch_size}, 1.0 / static_cast<double>(options.batch_size), at::kDouble);
    for (int64_t t = 0; t < options.iterations; ++t) {
      source->set_key(key(t));
      const ParameterList gradient = source->weighted_gradient(sampler.next(), weights);
      const at::NoGradGuard no_grad;
      for (size_t l = 0; l < gradient.size(); ++l) {
        source->parameters()[l].sub_(gradient[l], options.lr);
      }
    }
    return parameter_hash(source->parameters());
  };
  options.transform_locking = "on";
  EXPECT_EQ(recorded(options).hashes().back(),
            by_hand([](int64_t t) { return static_cast<uint64_t>(t / 4); }));
  options.transform_locking = "off";
  EXPECT_EQ(recorded(options).hashes().back(),
            by_hand([](int64_t t) { return transform_key(false, 0, Pass::kTraining, t / 7); }));
}

TEST_F(DeepRuns, DropoutIsPartOfTheStepsAndNotOfTheLosses) {
  RunOptions options = deep_run();
  options.augment = "none";
  const Recorder plain = recorded(options);
  options.dropout = 0.5;
  const Recorder dropped = recorded(options);
  EXPECT_EQ(dropped.steps.front().train_loss, plain.steps.front().train_loss);
  EXPECT_NE(dropped.hashes().back(), plain.hashes().back());
  EXPECT_EQ(dropped.steps.back().moments[1].variance_ratio, 0) << "locked at the snapshot";
  options.transform_locking = "off";
  EXPECT_GT(recorded(options).steps.back().moments[1].variance_ratio, 0);
}

TEST_F(DeepRuns, MeasuringByTheBatchLeavesTheRunningStatisticsAlone) {
  const auto eval = last_step("eval", "none"), reset = last_step("reset", "none");
  EXPECT_EQ(reset.parameter_hash, eval.parameter_hash);
  EXPECT_EQ(reset.test_loss, eval.test_loss);
}

// By the minibatches of the snapshot, so that no draw of the measurement is in it.
TEST_F(DeepRuns, CurvatureByTheBatchIsOfTheWholeSet) {
  RunOptions options = deep_run();
  options.norm = "batch";
  options.batch_norm = "reset";
  options.measure = "sampled";
  options.drift_every = 1;
  options.log_at = {0.5};
  const auto curvature = [&](int64_t draws) {
    options.draws = draws;
    return recorded(options).steps.front().snapshot_curvature;
  };
  EXPECT_GT(curvature(3), 0);
  EXPECT_EQ(curvature(3), curvature(7));
  options.drift_every = 0;
  EXPECT_NE(curvature(3), curvature(7)) << "the mean over draws, which are few";
}

TEST_F(DeepRuns, TheNaiveWayMovesTheRunningStatistics) {
  const auto reset = last_step("reset", "svrg"), naive = last_step("train", "svrg");
  EXPECT_EQ(naive.parameter_hash, reset.parameter_hash) << "the steps go by the batch";
  EXPECT_NE(naive.test_loss, reset.test_loss) << "the network that is tested does not";
}

TEST_F(DeepRuns, AugmentationNeedsImages) {
  RunOptions options = small_run();
  options.augment = "flip";
  EXPECT_EQ(test::refusal([&] { run(options); }),
            "augment = flip, must be none for examples of shape [64]: images [channels, height, "
            "width] are needed");
}

TEST(SgdTrajectoryTest, LogsAtFractionsOfTheWayToTheNextRefresh) {
  RunOptions options = small_run();
  options.estimator = {"svrg"};
  options.iterations = 20;
  options.refresh_every = 10;
  options.log_at = {0.2, 1};
  EXPECT_EQ(recorded(options).lines,
            (std::vector<std::string>{"begin logistic 64-10", "refresh svrg 0", "log 2", "log 9",
                                      "refresh svrg 10", "log 12", "log 19", "refresh svrg 20",
                                      "log 20", "end"}));
  EXPECT_EQ(SgdTrajectory(options).info().log_points, 5);
}

double distance(const ParameterList& a, const ParameterList& b) {
  double squares = 0;
  for (size_t l = 0; l < a.size(); ++l) {
    squares += (a[l].to(at::kDouble) - b[l].to(at::kDouble)).square().sum().item<double>();
  }
  return std::sqrt(squares);
}

// ||theta - theta~||, and ||mean of g_i - g~_i|| over it: of the minibatches that the measuring
// generator draws, and of all examples.
TEST(SgdTrajectoryTest, DistanceAndCurvatureAreThoseOfTheirFormulas) {
  RunOptions options = small_run();
  options.estimator = {"svrg"};
  options.iterations = 4;
  options.log_every = 1;
  options.drift_every = 1;
  const Recorder recorder = recorded(options);
  ASSERT_EQ(recorder.drift.size(), 4U);

  SgdByHand by_hand(options), at_snapshot(options);
  const auto examples = by_hand.source.examples();
  const auto all = at::arange(examples, at::kLong);
  const auto equal = at::full({examples}, 1.0 / static_cast<double>(examples), at::kDouble);
  const auto design = uniform_design(examples, options.batch_size, options.replacement);
  at::Generator measuring = stream_generator(options.seed, RandomStream::kMeasuring);
  for (int64_t t = 1; t <= 4; ++t) {
    by_hand.step(options.lr);
    const auto way = distance(by_hand.iterate(), at_snapshot.iterate());
    const auto curvature = [&](const at::Tensor& indices, const at::Tensor& weights) {
      return distance(by_hand.source.weighted_gradient(indices, weights),
                      at_snapshot.source.weighted_gradient(indices, weights)) /
             way;
    };
    const DriftStep& drift = recorder.drift[static_cast<size_t>(t - 1)];
    const TrajectoryStep& logged = recorder.steps[static_cast<size_t>(t)];
    const WeightedBatch batch = design.draw(measuring);
    // Gradients in float32: their rounding over their difference.
    EXPECT_NEAR(drift.distance, way, 1e-5 * way) << t;
    EXPECT_NEAR(drift.curvature, curvature(batch.indices, batch.weights), 1e-3 * drift.curvature);
    EXPECT_NEAR(logged.distance_to_snapshot, way, 1e-5 * way) << t;
    EXPECT_NEAR(logged.snapshot_curvature, curvature(all, equal), 1e-3 * logged.snapshot_curvature);
    EXPECT_GT(std::abs(drift.curvature - logged.snapshot_curvature), 3e-3 * drift.curvature)
        << "the test would tell them apart";
  }
}

TEST(SgdTrajectoryTest, FollowsTheDriftFromTheSnapshot) {
  RunOptions options = small_run();
  options.estimator = {"svrg"};
  options.log_every = 1;
  options.drift_every = 2;  // refreshes at 0, 5, 10: the first interval alone
  const Recorder recorder = recorded(options);
  ASSERT_EQ(recorder.drift.size(), 4U);
  for (const auto& step : recorder.drift) {
    const auto& logged = recorder.steps.at(static_cast<size_t>(step.iteration));
    EXPECT_EQ(step.since_snapshot, step.iteration);
    EXPECT_EQ(step.distance, logged.distance_to_snapshot);
    EXPECT_GT(step.curvature, 0);
  }
  const auto measured = recorder.hashes();
  options.drift_every = 0;
  EXPECT_EQ(recorded(options).hashes(), measured);
}

// A batch of everything is no sample: the curvature is that of the whole set.
TEST(SgdTrajectoryTest, TheDriftOfAllExamplesIsTheSnapshotsCurvature) {
  RunOptions options = small_run();
  options.estimator = {"svrg"};
  options.batch_size = 3823;
  options.replacement = false;
  options.iterations = 3;
  options.log_every = 1;
  options.drift_every = 1;
  const Recorder recorder = recorded(options);
  ASSERT_EQ(recorder.drift.size(), 3U);
  for (const auto& step : recorder.drift) {
    const auto& logged = recorder.steps.at(static_cast<size_t>(step.iteration));
    // Gradients in float32: their rounding over their difference, lr times the curvature.
    EXPECT_NEAR(step.curvature, logged.snapshot_curvature, 1e-3 * logged.snapshot_curvature);
  }
}

TEST(SgdTrajectoryTest, StopsWhereAnObserverAsks) {
  Recorder recorder;
  recorder.stop_after = 6;
  const RunResult result = run(small_run(), {&recorder});
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.iterations, 6);
  EXPECT_EQ(recorder.lines.back(), "end");
  EXPECT_EQ(result.last->iteration, 4);
}

TEST(SgdTrajectoryTest, StopsInsideALongPass) {
  Recorder recorder;
  recorder.stop_after = 0;
  const RunResult result = run(small_run(), {&recorder});
  EXPECT_TRUE(result.stopped);
  EXPECT_FALSE(result.last.has_value()) << "the first refresh was not finished";
}

TEST(SgdTrajectoryTest, SaysWhyItCannotGoOn) {
  RunOptions options = small_run();
  options.lr = 1e30;
  options.iterations = 40;
  options.estimator = {"sg-b"};
  const std::string message = test::refusal([&] { run(options); });
  EXPECT_THAT(message, test::is_one_line());
  EXPECT_THAT(message, ::testing::HasSubstr("lr = 1e+30, must be smaller: the "));
  EXPECT_THAT(message, ::testing::HasSubstr("before iteration "));
}

TEST(SgdTrajectoryTest, RefusesParametersThatAreNoneBeforeAnyWork) {
  auto options = small_run();
  options.gc_parameters = {"fc9.*"};
  EXPECT_THAT(test::refusal([&] { SgdTrajectory{options}; }),
              ::testing::HasSubstr("gc-parameters = fc9.*"));
}

TEST(SgdTrajectoryTest, PicksOneThreadForSmallStepsAndSaysSo) {
  RunOptions options = small_run();
  options.threads = 0;
  EXPECT_EQ(SgdTrajectory(options).info().options.threads, 1);
}

TEST(SgdTrajectoryTest, RunsOnce) {
  SgdTrajectory trajectory(small_run());
  trajectory.run();
  EXPECT_THAT(test::refusal([&] { trajectory.run(); }), ::testing::HasSubstr("must be run once"));
}

}  // namespace
}  // namespace gradist
