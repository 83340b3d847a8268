#include "tools/program.h"
#include "tools/progress.h"
#include "tools/stop_signals.h"
#include "tools/text.h"
#include "trajectory/sgd_trajectory.h"
#include "trajectory/trace_reader.h"

#include <c10/util/Exception.h>
#include <boost/program_options.hpp>

#include <algorithm>

namespace gradist::detail {

namespace {

namespace po = boost::program_options;

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

/// What the command line of `run` says: the run's own options as text, and what concerns the
/// program alone.
struct RunCommandLine {
  RunRequest request;
  bool help = false;
  bool list_presets = false;
  bool print_config = false;
  bool quiet = false;
};

/// Every option of RunOptions takes a text; one that is off by default may stand alone.
po::options_description described_options() {
  po::options_description described;
  auto add = described.add_options();
  for (const char* name : {"help", "list-presets", "print-config", "quiet"}) {
    add(name, "");
  }
  for (const char* name : {"preset", "config"}) {
    add(name, po::value<std::string>(), "");
  }
  RunOptions defaults;
  for (const auto& option : list_options(defaults)) {
    const auto* flag = std::get_if<bool*>(&option.value());
    auto* text = po::value<std::string>();
    add(option.name().c_str(), flag != nullptr && !**flag ? text->implicit_value("yes") : text, "");
  }
  return described;
}

std::string without_dashes(const std::string& name) {
  return name.substr(std::min(name.find_first_not_of('-'), name.size()));
}

/// The parser's complaints, in the one form our errors have.
po::parsed_options parse(const std::vector<std::string>& arguments,
                         const po::options_description& described) {
  using po::command_line_style::allow_long;
  using po::command_line_style::long_allow_adjacent;
  using po::command_line_style::long_allow_next;
  try {
    return po::command_line_parser(arguments)
        .options(described)
        .style(allow_long | long_allow_adjacent | long_allow_next)
        .run();
  } catch (const po::unknown_option& error) {
    RunOptions defaults;
    OptionList options = list_options(defaults);
    find_option(options, without_dashes(error.get_option_name()), "--");
    throw;
  } catch (const po::invalid_command_line_syntax& error) {
    const bool extra = error.kind() == po::invalid_syntax::extra_parameter;
    TORCH_CHECK_VALUE(false, error.get_option_name(),
                      extra ? ", must stand without a value" : ", must be followed by a value");
  }
}

RunCommandLine read_command_line(const std::vector<std::string>& arguments) {
  RunCommandLine line;
  const po::options_description described = described_options();
  std::vector<std::string> seen;
  for (const auto& option : parse(arguments, described).options) {
    const std::string& name = option.string_key;
    const std::string text = option.value.empty() ? "yes" : option.value.front();
    TORCH_CHECK_VALUE(!name.empty(), text.empty() ? "\"\"" : text,
                      ", must be an option of gradist run (they begin with --)");
    // The parser takes the next option for the value of one that has none.
    TORCH_CHECK_VALUE(text.rfind("--", 0) != 0, "--", name, ", must be followed by a value");
    TORCH_CHECK_VALUE(std::find(seen.begin(), seen.end(), name) == seen.end(), "--", name, " = ",
                      text, ", must be given only once");
    seen.push_back(name);
    TORCH_CHECK_VALUE(!text.empty() || (name != "preset" && name != "config"), "--", name,
                      " = \"\", must not be empty");
    if (name == "preset") {
      line.request.preset = text;
    } else if (name == "config") {
      line.request.config_file = text;
    } else if (name == "help") {
      line.help = true;
    } else if (name == "list-presets") {
      line.list_presets = true;
    } else if (name == "print-config") {
      line.print_config = true;
    } else if (name == "quiet") {
      line.quiet = true;
    } else {
      line.request.options.emplace_back(name, text);
    }
  }
  return line;
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

int run_to_its_end(const RunCommandLine& line, const RunOptions& options,
                   const ProgramFaces& faces) {
  SgdTrajectory trajectory(options);
  const StopSignals signals;
  SignalObserver stop(signals);
  std::vector<Observer*> observers = {&stop};
  std::unique_ptr<Observer> progress;
  if (!line.quiet) {
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
  if (!line.quiet) {
    print_results(result, options, faces.out);
  }
  return kDone;
}

}  // namespace

int run_command(const std::vector<std::string>& arguments, const ProgramFaces& faces) {
  std::vector<std::string> words = arguments;
  std::replace(words.begin(), words.end(), std::string("-h"), std::string("--help"));
  const RunCommandLine line = read_command_line(words);
  if (line.help) {
    faces.out << help();
    return kDone;
  }
  if (line.list_presets) {
    faces.out << preset_list();
    return kDone;
  }
  const RunOptions options = resolve_run_options(line.request);
  if (line.print_config) {
    faces.out << checked_config(options);
    return kDone;
  }
  return run_to_its_end(line, options, faces);
}

}  // namespace gradist::detail
