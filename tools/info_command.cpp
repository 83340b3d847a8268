#include "storage/child_process.h"
#include "tools/program.h"
#include "tools/text.h"
#include "trajectory/run_options.h"
#include "trajectory/trace_reader.h"

#include <c10/util/Exception.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace gradist::detail {

namespace {

constexpr unsigned kPatience = 60;  // seconds for reading a summary

/// The lines of a config that are not those of the defaults.
std::string chosen_in(const std::string& config) {
  std::set<std::string> defaults;
  std::string line, chosen;
  for (std::istringstream all(to_toml(RunOptions())); std::getline(all, line);) {
    defaults.insert(line);
  }
  for (std::istringstream all(config); std::getline(all, line);) {
    chosen += defaults.contains(line) ? "" : line + "\n";
  }
  return chosen;
}

std::string page(const TraceSummary& trace, const std::string& path) {
  std::ostringstream text;
  text << path << ": gradist trace, schema " << trace.schema_version << ", written by gradist "
       << trace.gradist_version << "\n\n"
       << with_separators(trace.parameters) << " parameters, " << with_separators(trace.examples)
       << " training examples, batch size " << trace.batch_size << "; "
       << counted(trace.log_points, "log point") << " so far\n";
  if (trace.log_points > 0) {
    text << "iteration " << trace.iteration << ": train loss " << significant(trace.train_loss)
         << ", accuracy " << significant(trace.train_accuracy) << "; test loss "
         << significant(trace.test_loss) << ", accuracy " << significant(trace.test_accuracy)
         << "; " << duration(trace.seconds) << "\n\n"
         << estimator_table(trace.estimators) << "Medians over the log points.\n";
  }
  text << "\nOptions, where they are not the default\n\n" << chosen_in(trace.config);
  return text.str();
}

/// What the child says first: the page follows, or the one line that refuses the file.
enum class Answer : uint8_t { kPage, kRefusal };

void answer(const ChildProcess::Parent& parent, Answer kind, const std::string& text) {
  parent.write(&kind, 1);
  parent.write(text.data(), text.size());
}

void read_in_child(const std::string& path, const ChildProcess::Parent& parent) {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGALRM, SIG_DFL);
  alarm(kPatience);  // no endless loop
  try {
    answer(parent, Answer::kPage, page(read_trace_summary(path), path));
  } catch (const c10::Error& error) {
    answer(parent, Answer::kRefusal, error.what_without_backtrace());
  } catch (const std::exception& error) {
    answer(parent, Answer::kRefusal, path + ", must be a gradist trace: " + error.what());
  }
}

std::string receive(ChildProcess& child) {
  std::string text;
  std::array<uint8_t, 4096> buffer;
  for (size_t count = 0; (count = child.read(buffer)) > 0;) {
    text.append(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(count));
  }
  return text;
}

/// The page of a trace, read in a child process: HDF5 itself crashes on some broken files.
std::string page_from_child(const std::string& path) {
  ChildProcess child([&](const ChildProcess::Parent& parent) { read_in_child(path, parent); });
  const std::string said = receive(child);
  TORCH_CHECK_VALUE(child.wait().empty() && !said.empty(), path,
                    ", must be a gradist trace: HDF5 crashes or hangs on it");
  const std::string text = said.substr(1);
  TORCH_CHECK_VALUE(static_cast<Answer>(said.front()) == Answer::kPage, text);
  return text;
}

}  // namespace

int info_command(const std::vector<std::string>& arguments, const ProgramFaces& faces) {
  TORCH_CHECK_VALUE(arguments.size() == 1,
                    "info, must be followed by one trace: gradist info trace.h5");
  const std::string& path = arguments.front();
  if (path == "--help" || path == "-h") {
    faces.out
        << "gradist info TRACE: a trace in a page of text, also while the run still writes it.\n";
    return kDone;
  }
  TORCH_CHECK_VALUE(path.rfind("-", 0) != 0, path,
                    ", must be a trace: info has no options but --help");
  TORCH_CHECK_VALUE(std::filesystem::is_regular_file(path), path, ", must be an existing file");
  TORCH_CHECK_VALUE(std::ifstream(path).is_open(), path, ", must be readable");
  faces.out << page_from_child(path);
  return kDone;
}

}  // namespace gradist::detail
