#include "rf/sweep.h"
#include "tools/command_line.h"
#include "tools/program.h"
#include "tools/progress.h"
#include "tools/stop_signals.h"
#include "tools/text.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace gradist::detail {

namespace {

using rf::SweepOptions;

constexpr const char* kHelpHead =
    R"(gradist rf: train Random Features models over a grid, measure the gradient estimators, write one sweep.

  gradist rf
      the grid of Faghri et al. (2020), section 4.2: 324 models, some minutes
  gradist rf --n 100,1000 --d-in 100 --h-teacher 100 --lr 0.01 --seeds 0,1 --out small.h5
      a small one
  gradist rf --shard 2/8 --out part2.h5          the second of eight parts, for many machines
  gradist rf --merge part1.h5,part2.h5 --out sweep.h5
  gradist rf --resume --out sweep.h5             what a stopped or killed sweep still lacks

Later ones win: defaults, --preset, --config, options. Defaults stand in [brackets].
)";

constexpr const char* kHelpTail = R"(
Program
  --preset TEXT             named settings, see --list-presets
  --config FILE             options from a TOML file, names as here: lr = [0.1, 0.01]
  --print-config            check everything, print the options as TOML that reruns it, and stop
  --list-presets            print the presets, and stop
  --quiet                   print nothing but errors
  --help                    print this, and stop
)";

CommandLine read_rf_line(const std::vector<std::string>& arguments) {
  SweepOptions defaults;
  return read_command_line(arguments,
                           {.command = "gradist rf",
                            .switches = {"help", "list-presets", "print-config", "quiet"},
                            .texts = {"preset", "config"}},
                           list_options(defaults));
}

std::string help() {
  SweepOptions defaults;
  return kHelpHead + option_help(list_options(defaults)) + kHelpTail;
}

/// Shows a sweep through another observer, if there is one, and stops it once a signal came.
class SignalledSweep final : public rf::SweepObserver {
 public:
  SignalledSweep(const StopSignals& signals, std::unique_ptr<rf::SweepObserver> shown)
      : signals_(signals), shown_(std::move(shown)) {}

  void begin(const rf::SweepStatus& status) override {
    if (shown_) {
      shown_->begin(status);
    }
  }
  void progressed(const rf::SweepStatus& status) override {
    if (shown_) {
      shown_->progressed(status);
    }
  }
  bool wants_stop() override { return signals_.caught() != 0 || (shown_ && shown_->wants_stop()); }

 private:
  const StopSignals& signals_;
  std::unique_ptr<rf::SweepObserver> shown_;
};

int merge(const SweepOptions& options, bool quiet, const ProgramFaces& faces) {
  const auto merged = rf::merge_sweeps(options);
  if (!quiet) {
    faces.out << options.out << ": " << with_separators(merged.complete) << " of "
              << counted(merged.models, "model") << "\n";
  }
  return kDone;
}

int sweep(const SweepOptions& options, bool quiet, const ProgramFaces& faces) {
  const StopSignals signals;
  std::unique_ptr<rf::SweepObserver> progress;
  if (!quiet) {
    progress = faces.make_sweep_progress
                   ? faces.make_sweep_progress()
                   : std::make_unique<PlainSweepProgress>(faces.err, options.out);
  }
  SignalledSweep watching(signals, std::move(progress));
  const auto result = rf::run_sweep(options, &watching);
  const auto& status = result.status;
  if (result.stopped) {
    faces.err << "gradist: stopped after " << status.done << " of "
              << counted(status.total, "model") << "; gradist rf --resume goes on" << std::endl;
    return 128 + (signals.caught() != 0 ? signals.caught() : SIGINT);
  }
  if (!quiet) {
    faces.out << counted(status.done, "model") << " in " << duration(status.seconds)
              << (status.there > 0 ? ", " + with_separators(status.there) + " were there" : "")
              << "\n\nIn Python: gradist.rf.open(" << python_text(options.out) << ").plot()\n";
  }
  return kDone;
}

}  // namespace

int rf_command(const std::vector<std::string>& arguments, const ProgramFaces& faces) {
  const CommandLine line = read_rf_line(arguments);
  if (line.has("help")) {
    faces.out << help();
    return kDone;
  }
  if (line.has("list-presets")) {
    faces.out << all_presets();
    return kDone;
  }
  const SweepOptions options = rf::resolve_sweep_options(
      {.preset = line.text("preset"), .config_file = line.text("config"), .options = line.options});
  rf::check_sweep_options(options);
  if (line.has("print-config")) {
    faces.out << rf::to_toml(options, /*with_docs=*/true);
    return kDone;
  }
  TORCH_CHECK_VALUE(!options.out.empty(), "--out = \"\", must name a file");
  // An empty --merge, as a script with no files writes it, is no wish for a sweep.
  const bool merges = std::any_of(line.options.begin(), line.options.end(),
                                  [](const auto& option) { return option.first == "merge"; });
  return merges || !options.merge.empty() ? merge(options, line.has("quiet"), faces)
                                          : sweep(options, line.has("quiet"), faces);
}

}  // namespace gradist::detail
