#include "tools/command_line.h"
#include "tools/program.h"
#include "tools/progress.h"
#include "tools/stop_signals.h"
#include "tools/text.h"
#include "trajectory/sgd_trajectory.h"
#include "trajectory/trace_reader.h"

#include <algorithm>

namespace gradist::detail {

namespace {

constexpr const char* kHelpHead =
    R"(gradist run: train by minibatch SGD, measure the gradient estimators on the way, write a trace.

  gradist run
      trains an mlp on the bundled handwritten digits and measures sg-b, sg-2b, svrg and gc
  gradist run --data mnist --data-dir mnist --hidden 1024,1024 --lr 0.02 --out mnist.h5
      the same on MNIST, whose four files lie in the folder mnist

Later ones win: defaults, --preset, --config, options. Defaults stand in [brackets].
)";

constexpr const char* kHelpTail = R"(
Program
  --preset TEXT             named settings, see --list-presets
  --config FILE             options from a TOML file, names as here: batch-size = 128
  --print-config            check everything, print the options as TOML that reruns it, and stop
  --list-presets            print the presets, and stop
  --quiet                   print nothing but errors
  --help                    print this, and stop
)";

CommandLine read_run_line(const std::vector<std::string>& arguments) {
  RunOptions defaults;
  return read_command_line(arguments,
                           {.command = "gradist run",
                            .switches = {"help", "list-presets", "print-config", "quiet"},
                            .texts = {"preset", "config"}},
                           list_options(defaults));
}

std::string help() {
  RunOptions defaults;
  return kHelpHead + option_help(list_options(defaults)) + kHelpTail;
}

/// Everything is checked but the place of the trace: printing touches no file.
std::string checked_config(const RunOptions& options) {
  RunOptions checked = options;
  checked.out.clear();
  checked = SgdTrajectory(checked).info().options;
  checked.out = options.out;
  return to_toml(checked, /*with_docs=*/true);
}

/// Asks a run to stop once a signal came.
class SignalObserver final : public Observer {
 public:
  explicit SignalObserver(const StopSignals& signals) : signals_(signals) {}
  bool wants_stop() override { return signals_.caught() != 0; }

 private:
  const StopSignals& signals_;
};

void print_results(const RunResult& result, const RunOptions& options, std::ostream& out) {
  const TrajectoryStep& last = *result.last;
  out << "iteration " << last.iteration << ": train loss " << significant(last.train_loss)
      << ", accuracy " << significant(last.train_accuracy) << "; test loss "
      << significant(last.test_loss) << ", accuracy " << significant(last.test_accuracy) << "; "
      << duration(result.seconds) << "\n";
  if (options.out.empty()) {
    return;
  }
  const TraceSummary trace = read_trace_summary(options.out);
  out << "\n"
      << estimator_table(trace.estimators) << "Medians over "
      << counted(trace.log_points, "log point")
      << ". Normalized variance in [0, 1]: above 1/2 the noise exceeds the signal.\n\nNext: "
         "gradist report "
      << shell_word(options.out) << " -o report.html   or, in Python: gradist.open("
      << python_text(options.out) << ").plot()\n";
}

/// What looks the same from refresh to refresh with nothing to gain from it: "augment = flip".
/// Empty where transforms are not locked, or locked to a snapshot.
std::string locked_in_vain(const RunOptions& options) {
  const auto& names = options.estimator;
  if (options.transform_locking != "on" ||
      std::any_of(names.begin(), names.end(), takes_snapshot)) {
    return "";
  }
  std::string what = options.augment == "none" ? "" : "augment = " + options.augment;
  if (options.dropout > 0) {
    what += (what.empty() ? "" : " and ") + ("dropout = " + significant(options.dropout));
  }
  return what;
}

void print_notes(const RunOptions& options, std::ostream& err) {
  const std::string what = locked_in_vain(options);
  if (!what.empty()) {
    err << "gradist run: transform-locking = on keeps " << what
        << " the same from refresh to refresh, but no estimator takes a snapshot; off gives each "
           "epoch its own\n";
  }
}

int run_to_its_end(bool quiet, const RunOptions& options, const ProgramFaces& faces) {
  SgdTrajectory trajectory(options);
  const StopSignals signals;
  SignalObserver stop(signals);
  std::vector<Observer*> observers = {&stop};
  std::unique_ptr<Observer> progress;
  if (!quiet) {
    print_notes(options, faces.err);
    progress =
        faces.make_progress ? faces.make_progress() : std::make_unique<PlainProgress>(faces.err);
    observers.push_back(progress.get());
  }
  const RunResult result = trajectory.run(observers);
  progress.reset();
  if (result.stopped) {
    faces.err << "gradist: stopped at iteration " << result.iterations
              << (result.last && !options.out.empty()
                      ? "; " + options.out + " holds what was measured"
                      : "")
              << std::endl;
    return 128 + (signals.caught() != 0 ? signals.caught() : SIGINT);
  }
  if (!quiet) {
    print_results(result, options, faces.out);
  }
  return kDone;
}

}  // namespace

int run_command(const std::vector<std::string>& arguments, const ProgramFaces& faces) {
  const CommandLine line = read_run_line(arguments);
  if (line.has("help")) {
    faces.out << help();
    return kDone;
  }
  if (line.has("list-presets")) {
    faces.out << all_presets();
    return kDone;
  }
  const RunOptions options = resolve_run_options(
      {.preset = line.text("preset"), .config_file = line.text("config"), .options = line.options});
  if (line.has("print-config")) {
    faces.out << checked_config(options);
    return kDone;
  }
  return run_to_its_end(line.has("quiet"), options, faces);
}

}  // namespace gradist::detail
