#include "trajectory/run_options.h"

#include "data/files.h"
#include "support/value_error.h"
#include "trajectory/presets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace gradist {
namespace {

using test::refusal;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::StartsWith;

RunOptions resolved(std::vector<std::pair<std::string, std::string>> options,
                    const std::string& preset = "", const std::string& config = "") {
  return resolve_run_options({preset, config, std::move(options)});
}

TEST(RunOptionsTest, LaterSourcesWin) {
  const test::TemporaryFolder folder;
  const auto config = folder / "run.toml";
  test::write_file(config, "draws = 7\nlr = 0.3\n");
  const RunOptions options = resolved({{"lr", "0.4"}}, "faghri-mnist-mlp", config);
  EXPECT_EQ(options.lr, 0.4) << "command line";
  EXPECT_EQ(options.draws, 7) << "config file";
  EXPECT_EQ(options.momentum, 0.5) << "preset";
  EXPECT_EQ(options.seed, RunOptions().seed) << "default";
}

TEST(RunOptionsTest, EveryPresetIsARun) {
  std::set<std::string> names;
  for (const Preset& preset : presets()) {
    EXPECT_TRUE(names.insert(preset.name).second) << preset.name << " is there twice";
    EXPECT_FALSE(preset.source.empty() || preset.data.empty() || preset.time.empty())
        << preset.name;
    const RunOptions options = resolved({{"out", ""}}, preset.name);
    EXPECT_EQ(refusal([&] { check_run_options(options); }), "") << preset.name;
  }
}

TEST(RunOptionsTest, SmallPresetsAreThoseOfPaperScaleButForSizes) {
  const RunOptions paper = resolved({}, "faghri-cifar10-corrupt-labels");
  const RunOptions small = resolved({}, "faghri-cifar10-corrupt-labels:small");
  EXPECT_EQ(paper.label_corruption, 0.1);
  EXPECT_EQ(small.label_corruption, 0.1);
  EXPECT_EQ(paper.iterations, 80000);
  EXPECT_EQ(small.iterations, 400);
  EXPECT_EQ(small.lr, paper.lr);
}

TEST(RunOptionsTest, PresetsThatAreComparedDifferInOneOption) {
  for (const std::string scale : {"", ":small"}) {
    const auto toml = [&](const std::string& preset, const char* option, const char* value) {
      return to_toml(resolved({{option, value}}, preset + scale));
    };
    EXPECT_EQ(toml("defazio-locking-on", "transform-locking", "off"),
              toml("defazio-locking-off", "transform-locking", "off"));
    EXPECT_EQ(toml("defazio-batch-norm-reset", "batch-norm", "train"),
              toml("defazio-batch-norm-naive", "batch-norm", "train"));
    EXPECT_EQ(toml("defazio-densenet40", "activation", "elu"),
              toml("defazio-densenet40-elu", "activation", "elu"));
  }
  EXPECT_EQ(resolved({}, "defazio-locking-on").transform_locking, "on");
  EXPECT_EQ(resolved({}, "defazio-locking-off").transform_locking, "off");
  EXPECT_EQ(resolved({}, "defazio-batch-norm-reset").batch_norm, "reset");
  EXPECT_EQ(resolved({}, "defazio-batch-norm-naive").batch_norm, "train");
}

TEST(RunOptionsTest, TheRatioIsFollowedWhereThePaperHasIt) {
  const RunOptions options = resolved({}, "defazio-lenet5");
  EXPECT_EQ(options.log_at, (std::vector<double>{0.02, 0.11, 0.33, 1}));
  EXPECT_EQ(options.drive, "svrg");
  EXPECT_EQ(options.lr_drop, (std::vector<int64_t>{150 * 390, 220 * 390}));
  EXPECT_EQ(50 % options.drift_every, 0) << "epoch 50 is followed";
}

TEST(RunOptionsTest, MetaInitIsDrawnAsTorchDoesAndNeedsHiddenLayersWithoutBatchNorm) {
  const auto options = resolved({{"init", "metainit"}, {"metainit-steps", "7"}});
  EXPECT_EQ(model_options(options).init, "torch");
  EXPECT_EQ(metainit_options(options).steps, 7);
  EXPECT_EQ(metainit_options(options).batch_size, 64);
  EXPECT_EQ(metainit_options(options).lr, 0.1);
  EXPECT_EQ(metainit_options(options).momentum, 0.9);
  EXPECT_EQ(metainit_options(options).epsilon, 1e-5);
  const auto refused = [](std::vector<std::pair<std::string, std::string>> others) {
    others.emplace_back("init", "metainit");
    others.emplace_back("out", "");
    return refusal([&] { check_run_options(resolved(std::move(others))); });
  };
  EXPECT_EQ(refused({}), "");
  EXPECT_EQ(refused({{"model", "logistic"}}),
            "init = metainit, must be torch or he for logistic, which has no hidden layers");
  EXPECT_EQ(refused({{"model", "resnet8"}, {"norm", "batch"}}),
            "init = metainit, must be torch or he where norm = batch, which takes the norms of "
            "weights away");
  EXPECT_EQ(refused({{"metainit-steps", "0"}}), "--metainit-steps = 0, must be >= 1");
  EXPECT_EQ(refusal([] {
              resolved({{"init", "meta"}});
            }),
            "--init = meta, must be one of torch|he|metainit");
}

TEST(RunOptionsTest, PresetIsTableTwosRow) {
  const RunOptions options = resolved({}, "faghri-mnist-mlp");
  EXPECT_EQ(options.data, "mnist");
  EXPECT_EQ(options.hidden, (std::vector<int64_t>{1024, 1024}));
  EXPECT_EQ(options.batch_size, 128);
  EXPECT_EQ(options.iterations, 50000);
  EXPECT_EQ(options.log_every, 500);
  EXPECT_EQ(options.draws, 50);
  EXPECT_EQ(options.refresh_every, 2000);
  EXPECT_EQ(options.gc_iterations, 10);
  EXPECT_EQ(options.lr, 0.02);
  EXPECT_EQ(options.weight_decay, 5e-4);
  EXPECT_EQ(options.momentum, 0.5);
}

TEST(RunOptionsTest, TomlOfARunIsTheRun) {
  const test::TemporaryFolder folder;
  const auto config = folder / "run.toml";
  const RunOptions options = resolved({{"lr", "0.1"},
                                       {"lr-drop", "10,20"},
                                       {"estimator", "svrg"},
                                       {"duplicates", "3,0.25"},
                                       {"max-memory", "64M"},
                                       {"replacement", "no"},
                                       {"protocol", "faghri"}});
  test::write_file(config, to_toml(options, /*with_docs=*/true));
  EXPECT_EQ(to_toml(resolved({}, "", config)), to_toml(options));
  EXPECT_EQ(data_options(options).duplicate_points, 3);
  EXPECT_EQ(data_options(options).duplicate_fraction, 0.25);
  EXPECT_EQ(measure_options(options).mode, MeasureMode::kSampled);
  EXPECT_TRUE(measure_options(options).faghri);
  EXPECT_FALSE(estimator_options(options).replacement);
  EXPECT_EQ(estimator_options(options).max_memory, 64 << 20);
}

TEST(RunOptionsTest, TheProtocolImpliesSampledAndRefusesAnythingElse) {
  EXPECT_EQ(resolved({{"protocol", "faghri"}}).measure, "sampled");
  EXPECT_EQ(refusal([] {
              check_run_options(resolved({{"protocol", "faghri"}, {"measure", "exact"}}));
            }),
            "protocol = faghri, must be none where measure = exact (it needs sampled)");
}

TEST(RunOptionsTest, RefusesFilesThatAreNone) {
  const test::TemporaryFolder folder;
  const std::string missing = folder / "none.toml";
  EXPECT_EQ(refusal([&] { resolved({}, "", missing); }),
            "--config = " + missing + ", must be a readable TOML file");
  EXPECT_EQ(refusal([&] { resolved({}, "", folder.string()); }),
            "--config = " + folder.string() + ", must be a readable TOML file");
  EXPECT_THAT(refusal([] { resolved({}, "faghri"); }),
              AllOf(StartsWith("--preset = faghri, must be one of faghri-mnist-mlp|faghri-cifar10"),
                    EndsWith("-metainit, each also with :small"), test::is_one_line()));
}

TEST(RunOptionsTest, RefusesConfigsWithoutEnd) {
  EXPECT_EQ(refusal([] { resolved({}, "", "/dev/zero"); }),
            "--config = /dev/zero, must be a TOML file of at most 1048576 bytes");
}

TEST(RunOptionsTest, RefusesNumbersThatCannotWork) {
  const auto refused = [](const std::string& name, const std::string& value) {
    return refusal([&] { check_run_options(resolved({{name, value}, {"out", ""}})); });
  };
  EXPECT_EQ(refused("draws", "2"), "--draws = 2, must be >= 3");
  EXPECT_EQ(refused("measure-examples", "2"), "--measure-examples = 2, must be >= 3");
  EXPECT_EQ(refused("max-memory", "1K"), "--max-memory = 1K, must be 0 or >= 1M");
  EXPECT_EQ(refused("max-memory", "1M"), "");
  EXPECT_EQ(refused("lr-drop-factor", "10"), "--lr-drop-factor = 10, must lie in (0, 1]");
  EXPECT_EQ(refused("lr", "1e39"), "lr = 1e+39, must fit into a 32-bit float");
  EXPECT_EQ(refused("weight-decay", "1e39"), "weight-decay = 1e+39, must fit into a 32-bit float");
  EXPECT_THAT(refused("threads", "1000000"),
              ::testing::MatchesRegex("threads = 1000000, must be <= [0-9]+, 8 for each CPU .*"));
}

TEST(RunOptionsTest, EstimatorsAreToldWhatWasChosen) {
  const auto options = estimator_options(resolved({{"allocation", "neyman"},
                                                   {"gc-memory", "0.25"},
                                                   {"gc-sketch", "8"},
                                                   {"importance-mix", "0.75"}}));
  EXPECT_EQ(options.allocation, Allocation::kNeyman);
  EXPECT_EQ(options.gc_memory, 0.25);
  EXPECT_EQ(options.gc_sketch, 8);
  EXPECT_EQ(options.importance_mix, 0.75);
}

TEST(RunOptionsTest, RefusesEstimatorsAndDriversThatDoNotFit) {
  const auto refused = [](std::vector<std::pair<std::string, std::string>> options) {
    options.emplace_back("out", "");
    return refusal([&] { check_run_options(resolved(std::move(options))); });
  };
  EXPECT_EQ(refused({{"drive", "svrg"}}), "");
  EXPECT_EQ(refused({{"drive", "svrg"}, {"model", "resnet8"}, {"norm", "batch"}}),
            "drive = svrg, must be none where norm = batch and batch-norm = eval: a step by the "
            "statistics of its batch is no sum over examples");
  EXPECT_EQ(refused({{"drive", "gc-descent"}}),
            "drive = gc-descent, must be none or among the estimators measured");
  EXPECT_EQ(refused({{"estimator", "sg-importance"}, {"replacement", "no"}}),
            "replacement = no, must be yes for sg-importance, which draws by norms");
  EXPECT_EQ(refused({{"estimator", "gc-importance"}, {"measure", "subset"}}),
            "measure = subset, must be exact or sampled for gc-importance");
}

TEST(RunOptionsTest, RefusesToMeasureWhatDoesNotSeparate) {
  const auto refused = [](std::vector<std::pair<std::string, std::string>> options) {
    options.emplace_back("out", "");
    return refusal([&] { check_run_options(resolved(std::move(options))); });
  };
  using Options = std::vector<std::pair<std::string, std::string>>;
  const auto deep = [&](Options options) {
    options.insert(options.end(), {{"model", "lenet5"}, {"norm", "batch"}});
    return refused(options);
  };
  EXPECT_EQ(deep({}), "");
  EXPECT_EQ(deep({{"batch-norm", "reset"}}),
            "measure = exact, must be sampled where batch-norm = reset: examples of a batch share "
            "its statistics and do not separate");
  EXPECT_EQ(deep({{"batch-norm", "train"}, {"measure", "subset"}}),
            "measure = subset, must be sampled where batch-norm = train: examples of a batch share "
            "its statistics and do not separate");
  EXPECT_EQ(
      deep({{"batch-norm", "reset"}, {"measure", "sampled"}}),
      "batch-norm = reset, must be eval for gc, which needs the gradients of single examples");
  EXPECT_EQ(deep({{"batch-norm", "reset"},
                  {"measure", "sampled"},
                  {"estimator", "sg-b,svrg"},
                  {"drive", "svrg"}}),
            "");
  EXPECT_EQ(refused({{"batch-norm", "reset"}}),
            "batch-norm = reset, must be eval where norm = none");
  EXPECT_EQ(refused({{"estimator", "sg-b"}, {"drift-every", "2"}}),
            "drift-every = 2, must be 0 where no estimator has a snapshot");
  EXPECT_EQ(refused({{"log-at", "0.5,1.5"}}),
            "--log-at = 0.5,1.5, every number must lie in [0, 1]");
  EXPECT_EQ(refused({{"dropout", "1"}}), "--dropout = 1, must lie in [0, 1)");
  EXPECT_EQ(refused({{"dropout", "0.5"}, {"model", "logistic"}}),
            "dropout = 0.5, must be 0 for logistic, which has no hidden layers");
}

TEST(RunOptionsTest, ChecksStructsThatNoTextFilled) {
  RunOptions options;
  options.out.clear();
  options.lr = std::nan("");
  EXPECT_EQ(refusal([&] { check_run_options(options); }), "lr = nan, must be a finite number");
  options.lr = 0.1;
  options.momentum = 1;
  EXPECT_EQ(refusal([&] { check_run_options(options); }), "momentum = 1, must lie in [0, 1)");
  options.momentum = 0;
  EXPECT_EQ(refusal([&] { check_run_options(options); }), "");
}

TEST(RunOptionsTest, ChecksSizesAgainstTheTrainingSet) {
  const auto refused = [](std::vector<std::pair<std::string, std::string>> options) {
    return refusal([&] { check_sizes(resolved(std::move(options)), 100); });
  };
  EXPECT_EQ(refused({{"batch-size", "101"}}),
            "batch-size = 101, must be <= 100, the number of training examples");
  EXPECT_EQ(refused({{"clusters", "101"}}),
            "clusters = 101, must be <= 100, the number of training examples");
  EXPECT_EQ(refused({{"clusters", "65"}}),
            "clusters = 65, must be <= batch-size = 64, for every cluster needs a draw");
  EXPECT_EQ(refused({{"measure", "subset"}, {"measure-examples", "101"}}),
            "measure-examples = 101, must be <= 100, the number of training examples");
  EXPECT_EQ(refused({{"measure", "subset"}, {"measure-examples", "99"}}),
            "measure-examples = 99, must be >= 100, 4 for each of the 64 clusters of gc");
  EXPECT_EQ(refused({{"measure", "subset"}, {"measure-examples", "39"}, {"clusters", "10"}}),
            "measure-examples = 39, must be >= 40, 4 for each of the 10 clusters of gc");
  EXPECT_EQ(refused({{"measure", "subset"}, {"measure-examples", "3"}, {"estimator", "svrg"}}), "");
  EXPECT_EQ(refused({{"replacement", "no"}}),
            "replacement = no, must be yes where sg-2b draws 128 of 100 examples");
  EXPECT_EQ(refused({{"replacement", "no"}, {"estimator", "sg-b"}}), "");
  EXPECT_EQ(refused({{"batch-size", "100"}}), "");
}

}  // namespace
}  // namespace gradist
