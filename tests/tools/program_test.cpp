#include "tools/program.h"

#include "data/files.h"
#include "support/stored_datasets.h"
#include "tools/text.h"
#include "trajectory/trace_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <sstream>

namespace gradist {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

using Words = std::vector<std::string>;

struct Outcome {
  int status = 0;
  std::string out, err;
};

Outcome program(const Words& arguments,
                std::function<std::unique_ptr<Observer>()> make_progress = {}) {
  std::ostringstream out;
  std::ostringstream err;
  const int status = run_program(arguments, {out, err, std::move(make_progress), {}});
  return {status, out.str(), err.str()};
}

int64_t lines_in(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

class ProgramTest : public ::testing::Test {
 protected:
  /// A run of a second, with `more` on the command line.
  Words small_run(const Words& more = {}) const {
    Words words = {"run", "--model",         "logistic", "--iterations",    "10", "--log-every",
                   "5",   "--refresh-every", "5",        "--gc-iterations", "1",  "--threads",
                   "1",   "--out",           out};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }

  /// The one line that refuses a run, without "gradist: " and the end of the line.
  std::string refused(const Words& arguments) const {
    const Outcome outcome = program(arguments);
    EXPECT_EQ(outcome.status, kRefused) << outcome.err;
    EXPECT_THAT(outcome.out, IsEmpty());
    EXPECT_EQ(lines_in(outcome.err), 1) << outcome.err;
    EXPECT_THAT(outcome.err, StartsWith("gradist: "));
    return outcome.err.size() < 10 ? outcome.err : outcome.err.substr(9, outcome.err.size() - 10);
  }
  std::string refused_run(Words options) const {
    options.insert(options.begin(), {"run", "--out", out});
    return refused(options);
  }

  test::TemporaryFolder folder;
  std::string out = folder / "trace.h5";
};

TEST_F(ProgramTest, RunsAndSaysWhatCameOut) {
  const Outcome outcome = program(small_run());
  EXPECT_EQ(outcome.status, kDone) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("gradist run: logistic 64-10 (650 parameters) on digits "
                                     "(3,823 examples), 1 thread, trace in "));
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("sg-2b"), HasSubstr("Medians over 3 log points"),
                                 HasSubstr("gradist report")));
  EXPECT_EQ(read_trace_summary(out).iteration, 10);
}

TEST_F(ProgramTest, QuietIsSilent) {
  const Outcome outcome = program(small_run({"--quiet"}));
  EXPECT_EQ(outcome.status, kDone);
  EXPECT_THAT(outcome.out, IsEmpty());
  EXPECT_THAT(outcome.err, IsEmpty());
}

TEST_F(ProgramTest, SaysWhereTransformsAreLockedToNoSnapshot) {
  for (const std::string part : {"train", "t10k"}) {
    test::write_file(folder / (part + "-images-idx3-ubyte"),
                     test::idx_images(std::vector<uint8_t>(10 * 16, 1), 4, 4));
    test::write_file(folder / (part + "-labels-idx1-ubyte"),
                     test::idx_labels({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  }
  const auto said = [this](const std::string& estimator, const Words& more) {
    Words words = {"run",
                   "--data",
                   "mnist",
                   "--data-dir",
                   folder.string(),
                   "--hidden",
                   "4",
                   "--batch-size",
                   "2",
                   "--iterations",
                   "1",
                   "--gc-iterations",
                   "1",
                   "--threads",
                   "1",
                   "--out",
                   "",
                   "--estimator",
                   estimator};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = program(words);
    EXPECT_EQ(outcome.status, kDone) << outcome.err;
    return outcome.err;
  };
  const std::string note = "gradist run: transform-locking = on keeps ";
  EXPECT_THAT(said("sg-b,gc", {"--dropout", "0.5"}),
              StartsWith(note + "dropout = 0.5 the same from refresh to refresh, but no estimator "
                                "takes a snapshot; off gives each epoch its own\n"));
  EXPECT_THAT(said("sg-b", {"--augment", "flip", "--dropout", "0.5"}),
              StartsWith(note + "augment = flip and dropout = 0.5 the same"));
  EXPECT_THAT(said("sg-b", {"--dropout", "0.5", "--quiet"}), IsEmpty());
  for (const Words& needless :
       {Words{}, Words{"--augment", "flip", "--transform-locking", "off"}}) {
    EXPECT_THAT(said("sg-b", needless), Not(HasSubstr(note)));
  }
  EXPECT_THAT(said("sg-b,svrg", {"--augment", "flip"}), Not(HasSubstr(note)));
}

TEST_F(ProgramTest, RefusesBadOptionsInOneLine) {
  EXPECT_EQ(refused_run({"--foo", "1"}), "--foo, must be a known option");
  EXPECT_EQ(refused_run({"--batchsize", "1"}),
            "--batchsize, must be a known option; did you mean batch-size?");
  EXPECT_EQ(refused_run({"--iter", "5"}), "--iter, must be a known option") << "no abbreviations";
  EXPECT_EQ(refused_run({"--lr", "-1"}), "--lr = -1, must be > 0");
  EXPECT_EQ(refused_run({"--lr=-1"}), "--lr = -1, must be > 0");
  EXPECT_EQ(refused_run({"--lr", "0"}), "--lr = 0, must be > 0");
  EXPECT_EQ(refused_run({"--lr", "nan"}), "--lr = nan, must be a finite number");
  EXPECT_EQ(refused_run({"--lr"}), "--lr, must be followed by a value");
  EXPECT_EQ(refused_run({"--lr", "--momentum", "0.5"}), "--lr, must be followed by a value");
  EXPECT_EQ(refused_run({"--lr", "1", "--lr", "2"}), "--lr = 2, must be given only once");
  EXPECT_EQ(refused_run({"extra"}), "extra, must be an option of gradist run (they begin with --)");
  EXPECT_EQ(refused_run({""}), "\"\", must be an option of gradist run (they begin with --)");
  EXPECT_EQ(refused_run({"--preset", ""}), "--preset = \"\", must not be empty");
  EXPECT_EQ(refused_run({"--config", ""}), "--config = \"\", must not be empty");
  EXPECT_EQ(refused_run({"--quiet=yes"}), "--quiet, must stand without a value");
  EXPECT_EQ(refused_run({"--overwrite=maybe"}), "--overwrite = maybe, must be yes or no");
  EXPECT_EQ(refused_run({"--batch-size", "0"}), "--batch-size = 0, must be >= 1");
  EXPECT_EQ(refused_run({"--batch-size", "3824"}),
            "batch-size = 3824, must be <= 3823, the number of training examples");
  EXPECT_EQ(refused_run({"--clusters", "3824"}),
            "clusters = 3824, must be <= 3823, the number of training examples");
  EXPECT_EQ(refused_run({"--data", "cats"}),
            "--data = cats, must be one of digits|mnist|fashion-mnist|cifar10|cifar100|"
            "image-folder|csv|year-prediction-msd|libsvm|hdf5");
  EXPECT_EQ(refused_run({"--protocol", "faghri", "--measure", "exact"}),
            "protocol = faghri, must be none where measure = exact (it needs sampled)");
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST_F(ProgramTest, ANetworkBeyondAllMemoryIsOneLine) {
  for (const char* widths : {"99999999999", "9223372036854775807"}) {
    const Outcome outcome = program({"run", "--hidden", widths, "--out", out});
    EXPECT_EQ(outcome.status, kFailed);
    EXPECT_EQ(outcome.err,
              "gradist: out of memory; a smaller network or a smaller --max-memory needs less\n");
    EXPECT_FALSE(std::filesystem::exists(out));
  }
}

TEST_F(ProgramTest, TheHintQuotesAPathThatNeedsIt) {
  EXPECT_EQ(detail::shell_word("runs/ü-1.h5"), "runs/ü-1.h5");
  EXPECT_EQ(detail::shell_word("my 'best' run.h5"), "'my '\\''best'\\'' run.h5'");
  EXPECT_EQ(detail::python_text("a\"b\\c"), "\"a\\\"b\\\\c\"");
}

TEST_F(ProgramTest, RefusesBadPathsInOneLine) {
  const std::string nowhere = folder / "none";
  EXPECT_EQ(refused({"run", "--out", nowhere + "/trace.h5"}),
            "out = " + nowhere + "/trace.h5, must be in an existing folder");
  EXPECT_EQ(
      refused({"run", "--out", folder / "two\nlines/trace.h5"}),
      "out = " + (folder / "two?lines/trace.h5").string() + ", must be in an existing folder");
  EXPECT_EQ(refused_run({"--config", nowhere}),
            "--config = " + nowhere + ", must be a readable TOML file");
  EXPECT_THAT(refused_run({"--data", "mnist", "--data-dir", nowhere}), HasSubstr(nowhere));
  EXPECT_THAT(refused_run({"--data", "mnist", "--data-dir", folder.string()}),
              HasSubstr("train-images-idx3-ubyte"));
  EXPECT_THAT(refused_run({"--data", "mnist"}), HasSubstr("data-dir"));
}

TEST_F(ProgramTest, RefusesBadDataFilesInOneLine) {
  const std::string images = "train-images-idx3-ubyte";
  const std::string labels = "train-labels-idx1-ubyte";
  const auto refused_with = [&](const std::string& image_bytes, const std::string& label_bytes) {
    test::write_file(folder / images, image_bytes);
    test::write_file(folder / labels, label_bytes);
    test::write_file(folder / "t10k-images-idx3-ubyte",
                     test::idx_images(std::vector<uint8_t>(8, 1), 2, 2));
    test::write_file(folder / "t10k-labels-idx1-ubyte", test::idx_labels({0, 1}));
    return refused_run({"--data", "mnist", "--data-dir", folder.string(), "--batch-size", "2"});
  };
  const std::string two_images = test::idx_images({1, 2, 3, 4, 5, 6, 7, 9}, 2, 2);
  EXPECT_THAT(refused_with(two_images.substr(0, 20), test::idx_labels({0, 1})), HasSubstr(images))
      << "truncated";
  EXPECT_THAT(refused_with("\1\2\3\4" + two_images.substr(4), test::idx_labels({0, 1})),
              HasSubstr(images))
      << "magic";
  EXPECT_THAT(refused_with("", test::idx_labels({0, 1})), HasSubstr(images)) << "empty";
  EXPECT_THAT(refused_with(two_images, test::idx_labels({0, 10})), HasSubstr(labels))
      << "label out of range";
  EXPECT_THAT(refused_with(two_images, test::idx_labels({0, 1, 2})), HasSubstr(labels))
      << "number of labels";
}

TEST_F(ProgramTest, RefusesBadConfigsInOneLine) {
  const std::string config = folder / "run.toml";
  const auto refused_config = [&](const std::string& text) {
    test::write_file(config, text);
    return refused_run({"--config", config});
  };
  EXPECT_EQ(refused_config("lr = 0.1\nlearning-rate = 2"),
            config + ":2: learning-rate, must be a known option");
  EXPECT_EQ(refused_config("lr = \"big\""), config + ":1: lr = big, must be a number");
  EXPECT_EQ(refused_config("batch-size = -3"), config + ":1: batch-size = -3, must be >= 1");
  EXPECT_THAT(refused_config("lr = = 2"), HasSubstr(config + ":1: must be TOML; "));
  EXPECT_THAT(refused_config("lr = \"\xff\xfe\""), HasSubstr(config + ":1: must be TOML; "));
}

TEST_F(ProgramTest, AFailingRunLeavesAnExistingTraceAsItWas) {
  test::write_file(out, "precious");
  EXPECT_EQ(refused(small_run()), "out = " + out + ", must not exist without overwrite");
  EXPECT_NE(refused(small_run({"--overwrite", "--batch-size", "99999"})), "");
  EXPECT_NE(refused(small_run({"--overwrite", "--data", "mnist"})), "");
  EXPECT_EQ(test::read_file(out), "precious");
  EXPECT_EQ(program(small_run({"--overwrite", "--quiet"})).status, kDone);
  EXPECT_NE(test::read_file(out), "precious");
}

TEST_F(ProgramTest, PrintedConfigRerunsTheSameRun) {
  const std::string config = folder / "run.toml";
  const Outcome printed = program(small_run({"--seed", "3", "--lr-drop", "4,7", "--print-config"}));
  EXPECT_EQ(printed.status, kDone) << printed.err;
  EXPECT_FALSE(std::filesystem::exists(out)) << "printing runs nothing";
  test::write_file(config, printed.out);
  ASSERT_EQ(program(small_run({"--seed", "3", "--lr-drop", "4,7", "--quiet"})).status, kDone);
  const auto direct = test::reproducible_contents(out);
  ASSERT_EQ(program({"run", "--config", config, "--overwrite", "--quiet"}).status, kDone);
  EXPECT_EQ(test::reproducible_contents(out), direct);
  EXPECT_THAT(read_trace_summary(out).config, HasSubstr("lr-drop = [4, 7]"));
}

TEST_F(ProgramTest, AskedForProgressItUsesTheOneGiven) {
  class Counter : public Observer {
   public:
    explicit Counter(int64_t& steps) : steps_(steps) {}
    void progressed(int64_t, int64_t) override { ++steps_; }

   private:
    int64_t& steps_;
  };
  int64_t steps = 0;
  const auto make = [&] { return std::make_unique<Counter>(steps); };
  EXPECT_THAT(program(small_run(), make).err, IsEmpty());
  EXPECT_EQ(steps, 10);
  program(small_run({"--overwrite", "--quiet"}), make);
  EXPECT_EQ(steps, 10) << "not asked with --quiet";
}

TEST_F(ProgramTest, AnInterruptStopsCleanly) {
  class Interrupter : public Observer {
    void progressed(int64_t iteration, int64_t) override {
      if (iteration == 7) {
        std::raise(SIGINT);
      }
    }
  };
  const Outcome outcome = program(small_run(), [] { return std::make_unique<Interrupter>(); });
  EXPECT_EQ(outcome.status, 130);
  EXPECT_EQ(outcome.err, "gradist: stopped at iteration 7; " + out + " holds what was measured\n");
  EXPECT_EQ(read_trace_summary(out).iteration, 5);
  EXPECT_EQ(test::stored_datasets(out).at("trajectory/iteration").extents.front(), 2U);
}

TEST_F(ProgramTest, DataInfoSaysWhatFilesHold) {
  test::write_file(folder / "good.csv", "1,2\n");
  const std::string path = (folder / "good.csv").string();
  const Outcome good = program({"data", "info", path});
  EXPECT_EQ(good.status, kDone);
  EXPECT_EQ(good.out, path + ": CSV, 1 rows of 2 numbers\n");
  test::write_file(folder / "ragged.csv", "1,2\n1\n");
  const Outcome all = program({"data", "info", folder.string()});
  EXPECT_EQ(all.status, kFailed);
  EXPECT_THAT(all.out, HasSubstr("ragged.csv:2: 1 field, must be at least 2"));
  EXPECT_EQ(refused({"data", "info", "nowhere"}), "nowhere: no such file or folder, must exist");
  EXPECT_EQ(refused({"data", "look"}), "data look, must be data info PATH or data fetch NAME");
  EXPECT_EQ(refused({"data", "fetch"}), "data fetch, must be given the name of a data set");
  EXPECT_EQ(refused({"data", "fetch", "imagenet"}),
            "data fetch imagenet, must be one of "
            "mnist|fashion-mnist|cifar10|cifar100|year-prediction-msd|a9a");
  EXPECT_THAT(refused({"data", "fetch", "a9a", "--folder", "x"}), HasSubstr("--folder"));
  EXPECT_EQ(refused({"data", "info"}), "data info, must be given one file or folder, not 0");
  EXPECT_THAT(program({"data", "--help"}).out, HasSubstr("gradist data info PATH"));
}

TEST_F(ProgramTest, DataInfoIsDoneWhereCifarsArchiveWasUnpacked) {
  const auto cifar = folder / "cifar";
  std::filesystem::create_directories(cifar);
  test::write_file(cifar / "batches.meta.txt", "airplane\n");
  test::write_file(cifar / "readme.html", "<html>\n");
  test::write_file(cifar / "test_batch.bin", test::cifar_record({3}, 0));
  const Outcome outcome = program({"data", "info", cifar.string()});
  EXPECT_EQ(outcome.status, kDone);
  EXPECT_THAT(outcome.out,
              HasSubstr("readme.html: text beside CIFAR's *.bin files, passed over\n"));
  EXPECT_THAT(outcome.out, HasSubstr("test_batch.bin: CIFAR-10, 1 images"));
}

TEST_F(ProgramTest, HelpTeachesEveryOption) {
  const Outcome outcome = program({"run", "--help"});
  EXPECT_EQ(outcome.status, kDone);
  RunOptions defaults;
  for (const auto& option : list_options(defaults)) {
    EXPECT_THAT(outcome.out, HasSubstr("--" + option.name()));
  }
  EXPECT_EQ(program({"run", "-h"}).out, outcome.out);
  std::istringstream lines(outcome.out);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 100U) << line;
  }
  for (const Words& words : {Words{}, Words{"--help"}, Words{"-h"}, Words{"help"}}) {
    EXPECT_THAT(program(words).out, HasSubstr("gradist run"));
  }
  EXPECT_THAT(program({"--list-presets"}).out, HasSubstr("faghri-mnist-mlp"));
  EXPECT_THAT(program({"--list-presets"}).out,
              AllOf(HasSubstr("gradist run --preset"), HasSubstr("gradist rf --preset"),
                    HasSubstr("faghri-rf"), HasSubstr("defazio-lenet5:small"),
                    HasSubstr("apostolov-cifar100-resnet101-metainit"), HasSubstr("Fig. 4.14"),
                    HasSubstr("time 1 min")));
  for (const char* command : {"run", "rf"}) {
    EXPECT_EQ(program({command, "--list-presets"}).out, program({"--list-presets"}).out);
  }
  EXPECT_THAT(program({"--version"}).out, StartsWith("gradist "));
}

TEST_F(ProgramTest, RefusesUnknownCommands) {
  EXPECT_EQ(refused({"walk"}),
            "walk, must be one of run|rf|check|data|info|report|--help|--version|--list-presets");
  EXPECT_EQ(refused({"--version", "now"}), "now, must not follow --version");
  EXPECT_THAT(refused({"report", "trace.h5"}), HasSubstr("Python package"));
}

TEST_F(ProgramTest, ChecksGradientsOfANetwork) {
  for (const std::string precision : {"float64", "float32"}) {
    const Outcome outcome =
        program({"check", "--hidden", "8,8", "--examples", "4", "--precision", precision});
    EXPECT_EQ(outcome.status, kDone) << outcome.err;
    EXPECT_THAT(outcome.out, AllOf(HasSubstr("layer1.weight"), HasSubstr("[8, 64]"),
                                   HasSubstr("linear"), HasSubstr("4 examples"),
                                   HasSubstr("scale: sum"), HasSubstr("every parameter has a rule"),
                                   HasSubstr("ok: every error is rounding")));
  }
  EXPECT_THAT(program({"check", "--help"}).out,
              AllOf(HasSubstr("--examples"), HasSubstr("--model"), HasSubstr("--label-smoothing"),
                    Not(HasSubstr("--iterations"))));
  EXPECT_EQ(refused({"check", "--examples", "0"}), "--examples = 0, must be >= 1");
  EXPECT_EQ(refused({"check", "--examples", "4000"}),
            "--examples = 4000, must be <= 3823, the number of training examples");
  EXPECT_EQ(refused({"check", "--precision", "half"}),
            "--precision = half, must be one of float64|float32");
  EXPECT_THAT(refused({"check", "--lr", "1"}), StartsWith("--lr"));
}

TEST_F(ProgramTest, InfoIsAPage) {
  program(small_run({"--quiet"}));
  const Outcome outcome = program({"info", out});
  EXPECT_EQ(outcome.status, kDone) << outcome.err;
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("650 parameters"), HasSubstr("3 log points"), HasSubstr("gc"),
                    HasSubstr("model = \"logistic\""), Not(HasSubstr("momentum"))));
  EXPECT_LE(lines_in(outcome.out), 66);
}

TEST_F(ProgramTest, InfoReadsATraceThatIsBeingWritten) {
  class Reader : public Observer {
   public:
    Reader(std::string path, std::string& seen) : path_(std::move(path)), seen_(seen) {}
    void logged(const TrajectoryStep& step) override {
      if (step.iteration == 5) {
        seen_ = output_of(std::string(GRADIST_PROGRAM) + " info " + path_);
      }
    }

   private:
    static std::string output_of(const std::string& command) {
      std::string text;
      FILE* pipe = popen(command.c_str(), "r");
      for (int letter = 0; (letter = fgetc(pipe)) != EOF;) {
        text += static_cast<char>(letter);
      }
      return pclose(pipe) == 0 ? text : "failed";
    }

    std::string path_;
    std::string& seen_;
  };
  std::string seen;
  program(small_run(), [&] { return std::make_unique<Reader>(out, seen); });
  EXPECT_THAT(seen, HasSubstr("2 log points"));
}

TEST_F(ProgramTest, InfoRefusesWhatIsNoTrace) {
  EXPECT_EQ(refused({"info"}), "info, must be followed by one trace: gradist info trace.h5");
  EXPECT_EQ(refused({"info", out}), out + ", must be an existing file");
  EXPECT_EQ(refused({"info", folder.string()}), folder.string() + ", must be an existing file");
  EXPECT_EQ(refused({"info", "--all"}), "--all, must be a trace: info has no options but --help");
  test::write_file(out, "");
  EXPECT_THAT(refused({"info", out}), StartsWith(out + ", must be a gradist trace"));
}

/// Debian's HDF5 crashes on some of these; whatever happens is a page or one line.
TEST_F(ProgramTest, InfoSurvivesBrokenTraces) {
  program(small_run({"--quiet"}));
  const std::string whole = test::read_file(out);
  const std::string broken = folder / "broken.h5";
  std::mt19937 random(7);
  for (int round = 0; round < 40; ++round) {
    std::string bytes = whole.substr(0, round % 4 == 0 ? random() % whole.size() : whole.size());
    for (int change = 0; change < 100 && !bytes.empty(); ++change) {
      bytes[random() % std::min<size_t>(bytes.size(), 20000)] = static_cast<char>(random());
    }
    test::write_file(broken, bytes);
    const Outcome outcome = program({"info", broken});
    if (outcome.status != kDone) {
      EXPECT_EQ(outcome.status, kRefused);
      EXPECT_THAT(outcome.out, IsEmpty());
      EXPECT_EQ(lines_in(outcome.err), 1) << outcome.err;
    }
  }
}

int exit_status(const std::string& command) { return WEXITSTATUS(std::system(command.c_str())); }

TEST_F(ProgramTest, TheBinaryGivesTheSameStatuses) {
  const std::string binary = GRADIST_PROGRAM;
  EXPECT_EQ(exit_status(binary + " --version > " + out), kDone);
  EXPECT_THAT(test::read_file(out), StartsWith("gradist "));
  EXPECT_EQ(exit_status(binary + " run --lr nan 2> " + out), kRefused);
  EXPECT_EQ(test::read_file(out), "gradist: --lr = nan, must be a finite number\n");
  EXPECT_EQ(exit_status(binary + " --help > /dev/full 2> " + out), kRefused);
  EXPECT_EQ(test::read_file(out),
            "gradist: standard output, must be writable: No space left on device\n");
}

TEST_F(ProgramTest, AFullDiskIsOneLine) {
  const std::string errors = folder / "errors";
  Words words = small_run({"--quiet"});
  std::string command = "trap '' XFSZ; ulimit -f 20; " + std::string(GRADIST_PROGRAM);
  for (const auto& word : words) {
    command += " " + word;
  }
  EXPECT_EQ(exit_status(command + " 2> " + errors), kRefused);
  EXPECT_EQ(test::read_file(errors), "gradist: " + out + ", cannot be written: File too large\n");
  EXPECT_FALSE(std::filesystem::exists(out));
}

TEST(TextTest, NumbersReadWell) {
  EXPECT_EQ(detail::with_separators(0), "0");
  EXPECT_EQ(detail::with_separators(999), "999");
  EXPECT_EQ(detail::with_separators(-1234567), "-1,234,567");
  EXPECT_EQ(detail::with_separators(-123), "-123");
  EXPECT_EQ(detail::significant(0.00012345), "0.000123");
  EXPECT_EQ(detail::significant(std::nan("")), "-");
  EXPECT_EQ(detail::duration(4.21), "4.2 s");
  EXPECT_EQ(detail::duration(200), "3 min 20 s");
  EXPECT_EQ(detail::duration(7500), "2 h 5 min");
  EXPECT_EQ(detail::counted(1, "thread"), "1 thread");
  EXPECT_EQ(detail::counted(2000, "thread"), "2,000 threads");
}

/// A sweep of four models in a moment.
Words small_sweep(const std::string& out, const Words& more = {}) {
  Words words = {"rf", "--n",          "8,16", "--d-in",       "3",        "--h-teacher",
                 "4",  "--h-student",  "5",    "--lr",         "0.1,0.01", "--seeds",
                 "0",  "--batch-size", "4",    "--iterations", "20",       "--test-examples",
                 "9",  "--threads",    "1",    "--out",        out};
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

TEST_F(ProgramTest, SweepsShardsAndMerges) {
  const std::string whole = folder / "whole.h5";
  const Outcome swept = program(small_sweep(whole));
  EXPECT_EQ(swept.status, kDone) << swept.err;
  EXPECT_EQ(swept.err, "gradist rf: 4 models, sweep in " + whole + "\n");
  EXPECT_THAT(swept.out, HasSubstr("gradist.rf.open(\"" + whole + "\").plot()"));
  const std::string first = folder / "first.h5";
  const std::string second = folder / "second.h5";
  program(small_sweep(first, {"--shard", "1/2", "--quiet"}));
  program(small_sweep(second, {"--shard", "2/2", "--quiet"}));
  const Outcome merged = program({"rf", "--merge", first + "," + second, "--out", out});
  EXPECT_EQ(merged.status, kDone) << merged.err;
  EXPECT_EQ(merged.out, out + ": 4 of 4 models\n");
  EXPECT_EQ(test::read_file(out), test::read_file(whole));
}

TEST_F(ProgramTest, MistakesInASweepAreOneLine) {
  EXPECT_EQ(refused({"rf", "--lr", "", "--out", out}),
            "--lr = \"\", must be one or more numbers > 0, none twice");
  EXPECT_EQ(refused({"rf", "--n", "5", "--out", out}), "n = 5, must be >= batch-size = 10");
  EXPECT_EQ(refused({"rf", "--merge", "", "--out", out}),
            "merge = \"\", must name one or more sweeps");
  EXPECT_EQ(refused({"rf", "--out", ""}), "--out = \"\", must name a file");
  const std::string one = folder / "one.h5";
  program(small_sweep(one, {"--quiet"}));
  const std::string other = folder / "other.h5";
  program(small_sweep(other, {"--quiet", "--weight-decay", "0"}));
  EXPECT_EQ(refused({"rf", "--merge", one + "," + other, "--out", out}),
            "merge = " + other + ", must be a sweep of the same grid as " + one);
  EXPECT_EQ(refused(small_sweep(one)), "out = " + one + ", must not exist without overwrite");
  EXPECT_FALSE(std::filesystem::exists(out));
}

}  // namespace
}  // namespace gradist
