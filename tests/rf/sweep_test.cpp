#include "rf/sweep.h"

#include "data/files.h"
#include "rf/parallel.h"
#include "rf/philox.h"
#include "support/value_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <csignal>
#include <deque>
#include <fstream>
#include <numeric>
#include <set>
#include <sstream>
#include <thread>

namespace gradist::rf {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// 24 models of a moment in all.
SweepOptions small_sweep() {
  SweepOptions options;
  options.n = {12, 40};
  options.d_in = {3, 5};
  options.h_teacher = {4, 6};
  options.h_student = {20};
  options.lr = {0.1, 0.01, 0.001};
  options.seeds = {7};
  options.batch_size = {4};
  options.iterations = 30;
  options.log_every = 8;
  options.refresh_every = 10;
  options.test_examples = 9;
  options.threads = 1;
  return options;
}

std::string bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

bool exists(const std::string& path) { return std::ifstream(path).is_open(); }

class SweepTest : public ::testing::Test {
 protected:
  std::string run(SweepOptions options, const std::string& name,
                  SweepObserver* observer = nullptr) {
    options.out = folder / name;
    run_sweep(options, observer);
    return options.out;
  }

  gradist::test::TemporaryFolder folder;
};

/// Stops a sweep after some models.
class StopAfter final : public SweepObserver {
 public:
  explicit StopAfter(int64_t models) : models_(models) {}
  void progressed(const SweepStatus& status) override { done_ = status.done; }
  bool wants_stop() override { return done_ >= models_; }

 private:
  int64_t models_;
  std::atomic<int64_t> done_ = 0;
};

TEST(Grid, HasAnAxisForEachList) {
  const SweepOptions options = small_sweep();
  EXPECT_THAT(grid_shape(options), ElementsAre(2, 2, 2, 1, 1, 1, 3, 1, 1));
  EXPECT_EQ(models_in(options), 24);
  const ModelPoint last = model_at(options, 23);
  EXPECT_EQ(last.n, 40);
  EXPECT_EQ(last.d_in, 5);
  EXPECT_EQ(last.h_teacher, 6);
  EXPECT_EQ(last.lr, 0.001);
  EXPECT_EQ(model_at(options, 1).lr, 0.01);
}

TEST(Grid, ThePapersIsTheDefault) {
  const SweepOptions options;
  EXPECT_EQ(models_in(options), 324);
  EXPECT_EQ(log_points(options).size(), 51U);
  std::vector<int64_t> models(324);
  std::iota(models.begin(), models.end(), 0);
  const auto groups = grouped(options, models);
  EXPECT_EQ(groups.size(), 6U) << "two input dimensions, three seeds";
  EXPECT_EQ(groups.front().features.examples, 10000);
  EXPECT_THAT(groups.front().features.h_teacher, ElementsAre(100, 10000));
}

TEST(Grid, LogPointsEndAtTheLastIteration) {
  EXPECT_THAT(log_points(small_sweep()), ElementsAre(0, 8, 16, 24, 30));
}

TEST(Grid, ShardsAreAPartition) {
  for (const int64_t shards : {1, 2, 5, 24, 30}) {
    std::multiset<int64_t> all;
    for (int64_t shard = 1; shard <= shards; ++shard) {
      SweepOptions options = small_sweep();
      options.shard = std::to_string(shard) + "/" + std::to_string(shards);
      const auto models = models_of_shard(options);
      all.insert(models.begin(), models.end());
    }
    EXPECT_EQ(all.size(), 24U);
    EXPECT_EQ(std::set<int64_t>(all.begin(), all.end()).size(), 24U);
  }
}

FeatureSet features_of(const SweepOptions& options) {
  std::vector<int64_t> all(static_cast<size_t>(models_in(options)));
  std::iota(all.begin(), all.end(), 0);
  return make_features(grouped(options, all).front().features, 1);
}

TEST(TrainingSet, LabelsAreTheCenteredTeachersSign) {
  SweepOptions options = small_sweep();
  options.d_in = {5};
  const auto features = features_of(options);
  const ModelPoint point = model_at(options, 0);
  const auto& outputs = features.teacher_train.at(point.h_teacher);
  const double mean = std::accumulate(outputs.begin(), outputs.begin() + point.n, 0.0) /
                      static_cast<double>(point.n);
  const auto problem = training_set(options, point, features);
  ASSERT_EQ(problem.examples(), point.n);
  for (int64_t i = 0; i < point.n; ++i) {
    EXPECT_EQ(problem.labels[static_cast<size_t>(i)],
              outputs[static_cast<size_t>(i)] >= mean ? 1 : -1);
  }
  const auto test = test_set(options, point, features);
  for (size_t i = 0; i < test.labels.size(); ++i) {
    EXPECT_EQ(test.labels[i], features.teacher_test.at(point.h_teacher)[i] >= mean ? 1 : -1);
  }
}

// Centred, both classes have many members; by the paper's text nearly one class is left, for ReLU
// features are positive and a teacher's output has the sign of its readout's sum.
TEST(TrainingSet, CenteredLabelsAreBalanced) {
  SweepOptions options = small_sweep();
  options.n = {400};
  options.d_in = {30};
  options.h_teacher = {100};
  int one_sided = 0;
  for (int64_t seed = 0; seed < 10; ++seed) {
    options.seeds = {seed};
    const auto features = features_of(options);
    const auto share = [&](bool centered) {
      options.center_labels = centered;
      const auto labels = training_set(options, model_at(options, 0), features).labels;
      return static_cast<double>(std::count(labels.begin(), labels.end(), 1.0)) / 400;
    };
    // The output is a sum of many terms, nearly symmetric about its mean: each label has
    // probability near 1/2, and five deviations are 0.125.
    EXPECT_NEAR(share(true), 0.5, 0.13) << seed;
    one_sided += std::abs(share(false) - 0.5) > 0.2 ? 1 : 0;
  }
  EXPECT_GE(one_sided, 5);
}

TEST(TrainingSet, DuplicatesMakeUpTheirFraction) {
  SweepOptions options = small_sweep();
  options.n = {40};
  options.duplicates = {0.1, 0.5, 0.9};
  options.d_in = {5};
  options.duplicate_points = 4;
  const auto features = features_of(options);
  for (const int64_t model : {int64_t{0}, int64_t{3}, int64_t{6}}) {
    const ModelPoint point = model_at(options, model);
    const auto problem = training_set(options, point, features);
    std::vector<int64_t> copies(40);
    for (const int32_t row : problem.index) {
      ++copies[static_cast<size_t>(row)];
    }
    const auto places = static_cast<int64_t>(std::llround(40 * point.duplicates));
    EXPECT_EQ(copies[0] + copies[1] + copies[2] + copies[3], places);
    EXPECT_LE(copies[0] - copies[3], 1);
    EXPECT_TRUE(std::all_of(copies.begin() + 4, copies.end(), [](int64_t c) { return c <= 1; }));
    EXPECT_EQ(problem.examples(), 40);
  }
}

TEST(Model, LearnsAndRecordsEverything) {
  SweepOptions options = small_sweep();
  options.iterations = 400;
  const auto features = features_of(options);
  ModelPoint point = model_at(options, 0);
  point.d_in = 5;
  const auto record = run_model(options, point, features);
  for (const auto& column : sweep_columns()) {
    EXPECT_EQ(static_cast<int64_t>((record.*column.values).size()), numbers_in(column, options))
        << column.name;
  }
  EXPECT_LT(record.train_loss.back(), record.train_loss.front() / 2);
  const size_t points = log_points(options).size();
  for (size_t t = 0; t < points; ++t) {
    EXPECT_NEAR(record.average_variance[points + t], record.average_variance[t] / 2,
                1e-12 * record.average_variance[t])
        << "sg-2b";
  }
}

// Maximum and mean of what comes from 30 % of the iterations on: 16, 24 and 30 of 30.
TEST(Model, SummarisesTheLastSeventyPercent) {
  const SweepOptions options = small_sweep();
  ModelPoint point = model_at(options, 0);
  point.d_in = 5;
  const auto record = run_model(options, point, features_of(options));
  const double* curve = record.average_variance.data();
  EXPECT_EQ(record.max_average_variance[0], std::max({curve[2], curve[3], curve[4]}));
  EXPECT_NEAR(record.mean_average_variance[0], (curve[2] + curve[3] + curve[4]) / 3, 1e-15);
}

TEST(Model, MeasuringOneEstimatorMoreChangesNothing) {
  SweepOptions options = small_sweep();
  ModelPoint point = model_at(options, 0);
  point.d_in = 5;
  const auto features = features_of(options);
  const auto all = run_model(options, point, features);
  options.estimators = {"gc"};
  const auto one = run_model(options, point, features);
  EXPECT_EQ(one.train_loss, all.train_loss);
  const size_t points = one.average_variance.size();
  for (size_t t = 0; t < points; ++t) {
    EXPECT_EQ(one.average_variance[t], all.average_variance[3 * points + t]);
  }
}

/// The mean training losses of plain SGD in float64, each logit with weights of its own.
class Textbook {
 public:
  Textbook(const SweepOptions& options, const ModelPoint& point, const Problem<float>& problem)
      : options_(options),
        point_(point),
        problem_(problem),
        weights_(static_cast<size_t>(options.logits),
                 std::vector<double>(static_cast<size_t>(problem.parameters()))) {
    Words random(Philox(static_cast<uint64_t>(point.seed), Stream::kReadout), 0);
    for (size_t j = 0; j < weights_[0].size(); ++j) {
      for (auto& row : weights_) {
        row[j] = (2 * random.uniform() - 1) / std::sqrt(static_cast<double>(point.h_student));
      }
    }
  }

  std::vector<double> losses() {
    std::vector<double> losses;
    const auto points = log_points(options_);
    for (int64_t t = 0; t <= options_.iterations; ++t) {
      if (std::find(points.begin(), points.end(), t) != points.end()) {
        losses.push_back(mean_loss());
      }
      step();
    }
    return losses;
  }

 private:
  std::vector<double> logits(size_t i) const {
    std::vector<double> z;
    const float* psi = problem_.psi->row(problem_.index[i]);
    for (const auto& row : weights_) {
      z.push_back(std::inner_product(row.begin(), row.end(), psi, 0.0));
    }
    return z;
  }

  double mean_loss() const {
    double sum = 0;
    for (size_t i = 0; i < problem_.index.size(); ++i) {
      const auto z = logits(i);
      const double y = problem_.labels[i];
      sum += z.size() == 1 ? loss_value(problem_.loss, z[0], y)
                           : std::log(std::exp(z[0]) + std::exp(z[1])) - z[y > 0 ? 0 : 1];
    }
    return sum / static_cast<double>(point_.n);
  }

  /// Derivatives of the loss of example i by its logits; the first of two is that of label +1.
  std::vector<double> backprops(size_t i) const {
    const auto z = logits(i);
    const double y = problem_.labels[i];
    if (z.size() == 1) {
      return {residual(problem_.loss, z[0], y)};
    }
    const double p = std::exp(z[0]) / (std::exp(z[0]) + std::exp(z[1]));
    return {p - (y > 0 ? 1 : 0), 1 - p - (y > 0 ? 0 : 1)};
  }

  void step() {
    if (order_.size() < static_cast<size_t>(point_.batch_size)) {
      Words random(Philox(static_cast<uint64_t>(point_.seed), Stream::kEpochs), epoch_++);
      const auto next = random_order(point_.n, random);
      order_.assign(next.begin(), next.end());
    }
    auto stepped = weights_;
    for (auto& row : stepped) {
      for (double& w : row) w -= point_.lr * point_.weight_decay * w;
    }
    for (int64_t b = 0; b < point_.batch_size; ++b) {
      const auto i = static_cast<size_t>(order_.front());
      order_.pop_front();
      const auto d = backprops(i);
      for (size_t k = 0; k < d.size(); ++k) {
        for (size_t j = 0; j < stepped[k].size(); ++j) {
          stepped[k][j] -= point_.lr / static_cast<double>(point_.batch_size) * d[k] *
                           problem_.psi->row(problem_.index[i])[j];
        }
      }
    }
    weights_ = stepped;
  }

  const SweepOptions& options_;
  const ModelPoint& point_;
  const Problem<float>& problem_;
  std::vector<std::vector<double>> weights_;  ///< [logits, P]
  std::deque<int32_t> order_;
  uint32_t epoch_ = 0;
};

// Float32 rounds each of 30 steps by 6e-8 of weights that do not grow.
TEST(Model, TrainsAsByTheTextbook) {
  SweepOptions options = small_sweep();
  options.weight_decay = {0.05};
  const auto features = features_of(options);
  ModelPoint point = model_at(options, 0);
  point.d_in = 5;
  for (const auto& [loss, logits] :
       {std::pair("cross-entropy", 1), {"cross-entropy", 2}, {"squared", 1}}) {
    options.loss = loss;
    options.logits = logits;
    const auto problem = training_set(options, point, features);
    const auto expected = Textbook(options, point, problem).losses();
    const auto found = run_model(options, point, features).train_loss;
    ASSERT_EQ(found.size(), expected.size());
    for (size_t t = 0; t < expected.size(); ++t) {
      EXPECT_NEAR(found[t], expected[t], 1e-5 * expected[t]) << loss << " " << logits << " " << t;
    }
  }
}

TEST_F(SweepTest, IsTheSameFileOnOneThreadAndOnMore) {
  SweepOptions options = small_sweep();
  const auto one = bytes_of(run(options, "one.h5"));
  options.threads = 2;
  EXPECT_EQ(one, bytes_of(run(options, "two.h5")));
  options.threads = 5;
  EXPECT_EQ(one, bytes_of(run(options, "five.h5")));
}

TEST_F(SweepTest, ReadsBackWhatItWrote) {
  const SweepOptions options = small_sweep();
  const SweepReader reader(run(options, "sweep.h5"));
  EXPECT_EQ(config_of(reader.options()), config_of(options));
  EXPECT_EQ(std::count(reader.complete().begin(), reader.complete().end(), true), 24);
  const ModelPoint point = model_at(options, 13);
  std::vector<int64_t> models = {13};
  const auto features = make_features(grouped(options, models).front().features, 1);
  const auto expected = run_model(options, point, features);
  const auto found = reader.record(13);
  for (const auto& column : sweep_columns()) {
    EXPECT_EQ(found.*column.values, expected.*column.values) << column.name;
  }
}

TEST_F(SweepTest, AStoppedSweepGoesOn) {
  SweepOptions options = small_sweep();
  const auto whole = bytes_of(run(options, "whole.h5"));
  StopAfter stop(5);
  const auto path = run(options, "part.h5", &stop);
  {
    const SweepReader part(path);
    EXPECT_EQ(std::count(part.complete().begin(), part.complete().end(), true), 5);
  }
  options.resume = true;
  EXPECT_EQ(bytes_of(run(options, "part.h5")), whole);
  EXPECT_EQ(bytes_of(run(options, "part.h5")), whole) << "nothing is left to do";
  EXPECT_EQ(bytes_of(run(options, "none.h5")), whole) << "where there is nothing, it begins";
}

/// Runs a sweep in a process of its own and kills it once `models` models are there.
void run_and_kill(const SweepOptions& options, int64_t models) {
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    try {
      run_sweep(options);
    } catch (...) {
      _exit(1);
    }
    _exit(0);
  }
  for (bool killed = false; !killed;) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    int64_t there = 0;
    if (exists(options.out)) {
      try {
        const SweepReader reader(options.out);
        there = std::count(reader.complete().begin(), reader.complete().end(), true);
      } catch (const c10::Error&) {
        there = 0;  // caught in the middle of its first bytes
      }
    }
    killed = there >= models || waitpid(child, nullptr, WNOHANG) == child;
  }
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
}

TEST_F(SweepTest, AKilledSweepLosesOnlyWhatWasInFlight) {
  SweepOptions options = small_sweep();
  options.iterations = 400;
  const auto whole = bytes_of(run(options, "whole.h5"));
  options.out = folder / "killed.h5";
  for (const int64_t models : {1, 9}) {
    options.resume = models > 1;
    run_and_kill(options, models);
    const SweepReader part(options.out);
    EXPECT_GE(std::count(part.complete().begin(), part.complete().end(), true), models);
  }
  options.resume = true;
  EXPECT_EQ(bytes_of(run(options, "killed.h5")), whole);
}

TEST_F(SweepTest, ShardsMergeToTheWhole) {
  SweepOptions options = small_sweep();
  const auto whole = bytes_of(run(options, "whole.h5"));
  for (const char* shard : {"1/3", "2/3", "3/3"}) {
    options.shard = shard;
    options.merge.push_back(run(options, std::string("part") + shard[0] + ".h5"));
  }
  options.out = folder / "merged.h5";
  const auto merged = merge_sweeps(options);
  EXPECT_EQ(merged.complete, 24);
  EXPECT_EQ(bytes_of(options.out), whole);
}

TEST_F(SweepTest, MergingPartOfTheShardsCanGoOn) {
  SweepOptions options = small_sweep();
  const auto whole = bytes_of(run(options, "whole.h5"));
  options.shard = "2/3";
  const auto part = run(options, "part.h5");
  options.merge = {part, part};
  options.out = folder / "merged.h5";
  EXPECT_EQ(merge_sweeps(options).complete, 8);
  options = small_sweep();
  options.resume = true;
  EXPECT_EQ(bytes_of(run(options, "merged.h5")), whole);
}

TEST_F(SweepTest, MergingRefusesOtherGridsAndOtherResults) {
  SweepOptions options = small_sweep();
  options.n = {12};
  const auto first = run(options, "first.h5");
  options.lr = {0.2};
  const auto other = run(options, "other.h5");
  SweepOptions merge;
  merge.out = folder / "merged.h5";
  merge.merge = {first, other};
  EXPECT_EQ(gradist::test::refusal([&] { merge_sweeps(merge); }),
            "merge = " + other + ", must be a sweep of the same grid as " + first);
  EXPECT_FALSE(exists(merge.out));

  const auto changed = std::string(folder / "changed.h5");
  {
    const SweepReader reader(first);
    auto file = SweepFile::create(changed, reader.options(), false);
    auto record = reader.record(2);
    record.train_loss[1] += 1;
    file.add(2, record);
  }
  merge.merge = {first, changed};
  EXPECT_EQ(gradist::test::refusal([&] { merge_sweeps(merge); }),
            "merge = " + changed + ", must agree with " + first + " on model 2");
  EXPECT_FALSE(exists(merge.out));
  merge.merge = {first, folder / "missing.h5"};
  EXPECT_THAT(gradist::test::refusal([&] { merge_sweeps(merge); }),
              HasSubstr("missing.h5, must be an existing file"));
}

TEST_F(SweepTest, ResumingRefusesAnotherGridAndChangesNothing) {
  SweepOptions options = small_sweep();
  options.n = {12};
  const auto path = run(options, "sweep.h5");
  const auto before = bytes_of(path);
  options.resume = true;
  options.lr = {0.1};
  EXPECT_EQ(gradist::test::refusal([&] { run(options, "sweep.h5"); }),
            path + ": lr = 0.1,0.01,0.001, must be 0.1 (it is a sweep of another grid)");
  EXPECT_EQ(bytes_of(path), before);
}

TEST_F(SweepTest, WhatIsNoSweepIsRefusedInALine) {
  const std::string path = folder / "text.h5";
  std::ofstream(path) << "not HDF5";
  EXPECT_THAT(gradist::test::refusal([&] { SweepReader reader(path); }),
              AllOf(StartsWith(path + ", must be a gradist sweep"), gradist::test::is_one_line()));
  SweepOptions options = small_sweep();
  options.out = path;
  EXPECT_EQ(gradist::test::refusal([&] { run_sweep(options); }),
            "out = " + path + ", must not exist without overwrite");
  options.resume = true;
  EXPECT_THAT(
      gradist::test::refusal([&] { run_sweep(options); }),
      AllOf(StartsWith(path + ", must be a writable gradist sweep"), gradist::test::is_one_line()));
}

TEST(SweepOptionsTest, MistakesAreOneLine) {
  const auto refused = [](const std::string& name, const std::string& text) {
    return gradist::test::refusal([&] {
      check_sweep_options(
          resolve_sweep_options({.preset = "", .config_file = "", .options = {{name, text}}}));
    });
  };
  EXPECT_EQ(refused("lr", ""), "--lr = \"\", must be one or more numbers > 0, none twice");
  EXPECT_EQ(refused("n", "5"), "n = 5, must be >= batch-size = 10");
  EXPECT_EQ(refused("d-in", "0,3"), "--d-in = 0,3, must be one or more numbers >= 1, none twice");
  EXPECT_EQ(refused("h-teacher", "2,2"),
            "--h-teacher = 2,2, must be one or more numbers >= 1, none twice");
  EXPECT_EQ(refused("shard", "3/2"), "--shard = 3/2, must be i/n with 1 <= i <= n, such as 1/4");
  EXPECT_EQ(refused("shard", "0/2"), "--shard = 0/2, must be i/n with 1 <= i <= n, such as 1/4");
  EXPECT_EQ(refused("lr", "0.1,x"), "--lr = 0.1,x, must be finite numbers separated by commas");
  EXPECT_EQ(refused("duplicates", "0.01"),
            "duplicate-points = 5, must be <= 1, what duplicates = 0.01 makes of n = 100");
  EXPECT_EQ(refused("estimators", "sgd"),
            "--estimators = sgd, must be one or more of "
            "sg-b|sg-2b|svrg|gc|gc-descent|sg-importance, none twice");
}

TEST(SweepOptionsTest, TheConfigRebuildsTheOptions) {
  SweepOptions options = small_sweep();
  options.duplicates = {0.1, 0.5};
  options.threads = 3;
  SweepOptions read;
  OptionList list = list_options(read);
  set_from_toml(list, config_of(options), "config");
  EXPECT_EQ(config_of(read), config_of(options));
  EXPECT_EQ(read.threads, 0) << "what changes no result is not kept";
}

TEST(ParallelFor, DoesEverythingOnceAndThrowsTheFirstError) {
  std::vector<std::atomic<int>> done(100);
  parallel_for(100, 4, [&](int64_t i) { ++done[static_cast<size_t>(i)]; });
  EXPECT_TRUE(std::all_of(done.begin(), done.end(), [](const auto& count) { return count == 1; }));
  EXPECT_THROW(parallel_for(100, 4,
                            [](int64_t i) {
                              if (i == 50) {
                                throw std::runtime_error("50");
                              }
                            }),
               std::runtime_error);
}

}  // namespace
}  // namespace gradist::rf
