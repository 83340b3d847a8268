#include "data/files.h"
#include "support/stored_datasets.h"
#include "support/value_error.h"
#include "trajectory/sgd_trajectory.h"
#include "trajectory/trace_reader.h"
#include "trajectory/trace_writer.h"

#include <gtest/gtest.h>

#include <cmath>

namespace gradist {
namespace {

using Extents = std::vector<hsize_t>;
using Names = std::vector<std::string>;

RunOptions small_run(const std::string& out) {
  RunOptions options;
  options.hidden = {8};
  options.iterations = 10;
  options.batch_size = 32;
  options.log_every = 4;
  options.refresh_every = 5;
  options.gc_iterations = 2;
  options.threads = 1;
  options.out = out;
  return options;
}

class Recorder : public Observer {
 public:
  void initialised(const InitialisationStep& step) override { quotients.push_back(step.quotient); }
  void refreshed(const RefreshEvent& event) override {
    if (event.clustering != nullptr) {
      clusterings.push_back(*event.clustering);
    }
  }
  void logged(const TrajectoryStep& step) override { steps.push_back(step); }

  std::vector<double> quotients;
  std::vector<TrajectoryStep> steps;
  std::vector<Clustering> clusterings;
};

class TraceTest : public ::testing::Test {
 protected:
  std::vector<std::string> files_left() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder.string())) {
      names.push_back(entry.path().filename());
    }
    return names;
  }

  test::TemporaryFolder folder;
  std::string out = folder / "trace.h5";
};

TEST_F(TraceTest, HoldsWhatObserversWereTold) {
  Recorder recorder;
  run(small_run(out), {&recorder});
  const auto trace = test::stored_datasets(out);
  EXPECT_EQ(trace.at("trajectory/iteration").values<int64_t>(),
            (std::vector<int64_t>{0, 4, 8, 10}));
  EXPECT_EQ(trace.at("refresh/gc/iteration").values<int64_t>(), (std::vector<int64_t>{0, 5, 10}));
  for (size_t t = 0; t < recorder.steps.size(); ++t) {
    const TrajectoryStep& step = recorder.steps[t];
    EXPECT_EQ(trace.at("trajectory/train_loss").values<double>()[t], step.train_loss);
    EXPECT_EQ(trace.at("trajectory/parameter_hash").values<uint64_t>()[t], step.parameter_hash);
    for (size_t e = 0; e < step.estimators.size(); ++e) {
      const std::string group = "estimators/" + step.estimators[e] + "/";
      EXPECT_EQ(trace.at(group + "average_variance").values<double>()[t],
                step.moments[e].average_variance);
      EXPECT_EQ(trace.at(group + "gradient_evaluations").values<int64_t>()[t],
                step.moments[e].gradient_evaluations);
      EXPECT_EQ(trace.at(group + "layers/layer2.bias/average_variance").values<double>()[t],
                step.moments[e].layer_average_variance.back());
    }
  }
  ASSERT_EQ(recorder.clusterings.size(), 3U);
  const auto assignments = trace.at("refresh/gc/assignments").values<int32_t>();
  const auto sizes = trace.at("refresh/gc/sizes").values<int64_t>();
  const auto scatter = trace.at("refresh/gc/scatter").values<double>();
  const auto parameter_scatter = trace.at("refresh/gc/parameter_scatter").values<double>();
  for (size_t r = 0; r < recorder.clusterings.size(); ++r) {
    const at::Tensor expected = recorder.clusterings[r].assignments();
    for (int64_t i = 0; i < expected.numel(); ++i) {
      ASSERT_EQ(assignments[r * 3823 + i], expected[i].item<int64_t>());
    }
    EXPECT_EQ(std::vector<int64_t>(sizes.begin() + r * 32, sizes.begin() + (r + 1) * 32),
              recorder.clusterings[r].sizes());
    EXPECT_EQ(std::vector<double>(scatter.begin() + r * 32, scatter.begin() + (r + 1) * 32),
              recorder.clusterings[r].scatter);
    const at::Tensor by_parameter = recorder.clusterings[r].parameter_scatter.sum(1);
    for (int64_t l = 0; l < 4; ++l) {
      EXPECT_EQ(parameter_scatter[r * 4 + l], by_parameter[l].item<double>());
    }
  }
}

// J after each step of every clustering, in order; missing steps are no numbers.
TEST_F(TraceTest, HoldsTheHistoryOfEveryClustering) {
  for (const std::string name : {"gc", "gc-descent"}) {
    RunOptions options = small_run(out);
    options.estimator = {"sg-b", name};
    options.gc_iterations = 6;
    options.overwrite = true;
    Recorder recorder;
    run(options, {&recorder});
    const auto stored = test::stored_datasets(out).at("refresh/" + name + "/objective");
    ASSERT_EQ(recorder.clusterings.size(), 3U);
    size_t longest = 0;
    for (const Clustering& clustering : recorder.clusterings) {
      longest = std::max(longest, clustering.history.size());
    }
    ASSERT_GE(longest, 2U);
    ASSERT_EQ(stored.extents, (Extents{3, longest})) << name;
    const auto values = stored.values<double>();
    for (size_t r = 0; r < 3; ++r) {
      const auto& history = recorder.clusterings[r].history;
      ASSERT_FALSE(history.empty());
      for (size_t step = 0; step < longest; ++step) {
        const double value = values[r * longest + step];
        if (step < history.size()) {
          EXPECT_EQ(value, history[step]) << name << ", refresh " << r << ", step " << step;
        } else {
          EXPECT_TRUE(std::isnan(value)) << name << ", refresh " << r << ", step " << step;
        }
      }
    }
  }
}

TEST_F(TraceTest, GivesEveryAxisAScaleInItsOwnOrAParentGroup) {
  run(small_run(out));
  const auto trace = test::stored_datasets(out);
  const auto expect = [&](const std::string& name, const Extents& extents, const Names& scales) {
    EXPECT_EQ(trace.at(name).extents, extents) << name;
    EXPECT_EQ(trace.at(name).scales, scales) << name;
  };
  expect("trajectory/test_accuracy", {4}, {"/trajectory/iteration"});
  expect("estimators/gc/mse", {4}, {"/estimators/iteration"});
  expect("estimators/gc/layers/layer1.weight/average_variance", {4}, {"/estimators/iteration"});
  expect("refresh/gc/assignments", {3, 3823}, {"/refresh/gc/iteration", "/refresh/gc/example"});
  expect("refresh/gc/sizes", {3, 32}, {"/refresh/gc/iteration", "/refresh/gc/cluster"});
  expect("refresh/gc/scatter", {3, 32}, {"/refresh/gc/iteration", "/refresh/gc/cluster"});
  expect("refresh/gc/parameter_scatter", {3, 4},
         {"/refresh/gc/iteration", "/refresh/gc/parameter"});
  expect("gradients/squared_norm_quantiles", {4, 21},
         {"/gradients/iteration", "/gradients/quantile"});
  expect("gradients/squared_norm_histogram", {4, 64}, {"/gradients/iteration", "/gradients/bin"});
  EXPECT_EQ(trace.at("refresh/gc/objective").scales,
            (Names{"/refresh/gc/iteration", "/refresh/gc/step"}));
  EXPECT_EQ(trace.at("refresh/gc/objective").extents.back(),
            trace.at("refresh/gc/step").extents.front());
  EXPECT_EQ(trace.at("gradients/squared_norm_histogram_edges").extents, Extents{65});
  EXPECT_EQ(trace.count("estimators/gc/ci_low"), 0U) << "exact measurements have no interval";
  EXPECT_EQ(trace.count("refresh/sg-b/iteration"), 0U) << "minibatches have no refresh";
}

TEST_F(TraceTest, HoldsTheQuotientsOfMetaInit) {
  Recorder recorder;
  RunOptions options = small_run(out);
  options.init = "metainit";
  options.metainit_steps = 3;
  run(options, {&recorder});
  const auto trace = test::stored_datasets(out);
  EXPECT_EQ(trace.at("metainit/step").values<int64_t>(), (std::vector<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(trace.at("metainit/quotient").values<double>(), recorder.quotients);
  EXPECT_EQ(trace.at("metainit/quotient").scales, Names{"/metainit/step"});
  options.init = "torch";
  options.overwrite = true;
  run(options);
  EXPECT_EQ(test::stored_datasets(out).count("metainit/quotient"), 0U);
}

TEST_F(TraceTest, HoldsIntervalsOfSampledMeasurementsAndNoNorms) {
  RunOptions options = small_run(out);
  options.measure = "sampled";
  options.draws = 4;
  run(options);
  const auto trace = test::stored_datasets(out);
  const auto low = trace.at("estimators/sg-b/ci_low").values<double>();
  const auto middle = trace.at("estimators/sg-b/average_variance").values<double>();
  const auto high = trace.at("estimators/sg-b/ci_high").values<double>();
  for (size_t t = 0; t < middle.size(); ++t) {
    EXPECT_LT(low[t], middle[t]);
    EXPECT_LT(middle[t], high[t]);
  }
  const auto histogram = trace.at("gradients/squared_norm_histogram").values<double>();
  EXPECT_TRUE(std::all_of(histogram.begin(), histogram.end(),
                          [](double count) { return std::isnan(count); }));
}

TEST_F(TraceTest, HoldsRatiosOfVariancesAndTheDriftFromTheSnapshot) {
  RunOptions options = small_run(out);
  options.estimator = {"sg-b", "svrg"};
  options.measure = "subset";
  options.measure_examples = 300;
  options.drift_every = 1;
  run(options);
  const auto trace = test::stored_datasets(out);
  EXPECT_EQ(trace.at("drift/iteration").values<int64_t>(),
            (std::vector<int64_t>{1, 2, 3, 4, 6, 7, 8, 9}));
  EXPECT_EQ(trace.at("drift/since_snapshot").values<int64_t>(),
            (std::vector<int64_t>{1, 2, 3, 4, 1, 2, 3, 4}));
  EXPECT_EQ(trace.at("drift/curvature").scales, Names{"/drift/iteration"});
  EXPECT_EQ(trace.at("drift/distance").values<double>()[3],
            trace.at("trajectory/distance_to_snapshot").values<double>()[1]);
  const auto low = trace.at("estimators/svrg/variance_ratio_low").values<double>();
  const auto ratio = trace.at("estimators/svrg/variance_ratio").values<double>();
  const auto high = trace.at("estimators/svrg/variance_ratio_high").values<double>();
  EXPECT_EQ(ratio[0], 0) << "at the snapshot";
  EXPECT_LT(low[1], ratio[1]);
  EXPECT_LT(ratio[1], high[1]);
  EXPECT_TRUE(std::isnan(trace.at("estimators/sg-b/variance_ratio").values<double>()[0]));
}

TEST_F(TraceTest, IsTheSameForTheSameSeedButForTimes) {
  const auto first = (run(small_run(out)), test::reproducible_contents(out));
  RunOptions again = small_run(out);
  again.overwrite = true;
  run(again);
  EXPECT_EQ(test::reproducible_contents(out), first);
  again.seed = 5;
  run(again);
  EXPECT_NE(test::reproducible_contents(out), first);
}

TEST_F(TraceTest, IsSummarized) {
  Recorder recorder;
  run(small_run(out), {&recorder});
  const TraceSummary summary = read_trace_summary(out);
  EXPECT_EQ(summary.schema_version, 1);
  EXPECT_EQ(summary.parameters, 64 * 8 + 8 + 8 * 10 + 10);
  EXPECT_EQ(summary.examples, 3823);
  EXPECT_EQ(summary.batch_size, 32);
  EXPECT_EQ(summary.log_points, 4);
  EXPECT_EQ(summary.iteration, 10);
  EXPECT_EQ(summary.train_loss, recorder.steps.back().train_loss);
  ASSERT_EQ(summary.estimators.size(), 4U);
  EXPECT_EQ(summary.estimators[1].name, "sg-2b");
  EXPECT_NEAR(summary.estimators[1].ratio, 0.5, 1e-12);
  EXPECT_EQ(summary.estimators[0].refreshes, 0);
  EXPECT_EQ(summary.estimators[3].refreshes, 3);

  RunOptions again;
  OptionList list = list_options(again);
  set_from_toml(list, summary.config, "config");
  EXPECT_EQ(to_toml(again), to_toml(small_run(out))) << "the attribute config is the whole run";
}

TEST_F(TraceTest, AFailingRunLeavesAnExistingTraceAsItWas) {
  test::write_file(out, "precious");
  RunOptions options = small_run(out);
  EXPECT_EQ(test::refusal([&] { run(options); }),
            "out = " + out + ", must not exist without overwrite");
  options.overwrite = true;
  options.batch_size = 5000;
  EXPECT_NE(test::refusal([&] { run(options); }), "");

  class Stopper : public Observer {
    bool wants_stop() override { return true; }
  } stopper;
  options.batch_size = 32;
  EXPECT_TRUE(run(options, {&stopper}).stopped) << "before the first log point";

  EXPECT_EQ(test::read_file(out), "precious");
  EXPECT_EQ(files_left(), std::vector<std::string>{"trace.h5"}) << "nothing temporary stays";
}

TEST_F(TraceTest, ARunThatBreaksOffLeavesAReadableTrace) {
  RunOptions options = small_run(out);
  options.lr = 1e30;
  options.iterations = 40;
  options.estimator = {"sg-b"};
  EXPECT_NE(test::refusal([&] { run(options); }), "");
  EXPECT_GE(read_trace_summary(out).log_points, 1);
  EXPECT_GE(test::stored_datasets(out).at("trajectory/iteration").extents.front(), 1U)
      << "by a plain open too";
}

TEST_F(TraceTest, ReplacesWhatALinkPointsTo) {
  test::write_file(folder / "target.h5", "old");
  std::filesystem::create_symlink(folder / "target.h5", out);
  RunOptions options = small_run(out);
  options.overwrite = true;
  run(options);
  EXPECT_TRUE(std::filesystem::is_symlink(out));
  EXPECT_EQ(read_trace_summary(folder / "target.h5").log_points, 4);
}

TEST_F(TraceTest, OtherFilesAreRefused) {
  test::write_file(out, "no HDF5 at all");
  EXPECT_THAT(
      test::refusal([&] { read_trace_summary(out); }),
      AllOf(::testing::HasSubstr("trace.h5, must be a gradist trace: "), test::is_one_line()));
  const std::string empty = folder / "empty.h5";
  H5Fclose(H5Fcreate(empty.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  EXPECT_THAT(
      test::refusal([&] { read_trace_summary(empty); }),
      AllOf(::testing::HasSubstr("empty.h5, must be a gradist trace: "), test::is_one_line()));
}

}  // namespace
}  // namespace gradist
