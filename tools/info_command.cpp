#include "tools/program.h"
#include "tools/text.h"
#include "trajectory/run_options.h"
#include "trajectory/trace_reader.h"

#include <c10/util/Exception.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

namespace gradist::detail {

namespace {

constexpr int kReaderRefused = 3;
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

/// Sends all of `text`; what cannot be sent is lost with the reader of the pipe.
void send(int pipe, const std::string& text) {
  for (size_t sent = 0; sent < text.size();) {
    const ssize_t count = write(pipe, text.data() + sent, text.size() - sent);
    if (count < 0) {
      return;
    }
    sent += static_cast<size_t>(count);
  }
}

std::string receive(int pipe) {
  std::string text;
  std::array<char, 4096> buffer;
  for (ssize_t count = 0; (count = read(pipe, buffer.data(), buffer.size())) != 0;) {
    if (count > 0) {
      text.append(buffer.data(), static_cast<size_t>(count));
    } else if (errno != EINTR) {
      break;
    }
  }
  return text;
}

/// The child may crash, and silently: no core, no handler of a parent's, nothing on the terminal,
/// no endless loop.
void prepare_to_crash() {
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  alarm(kPatience);
  for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGINT, SIGALRM}) {
    std::signal(signal, SIG_DFL);
  }
  const int nowhere = open("/dev/null", O_WRONLY);
  dup2(nowhere, STDERR_FILENO);
}

[[noreturn]] void read_in_child(const std::string& path, int pipe) {
  prepare_to_crash();
  try {
    send(pipe, page(read_trace_summary(path), path));
    _exit(0);
  } catch (const c10::Error& error) {
    send(pipe, error.what_without_backtrace());
  } catch (const std::exception& error) {
    send(pipe, path + ", must be a gradist trace: " + error.what());
  }
  _exit(kReaderRefused);
}

/// The page of a trace, read in a child process: HDF5 itself crashes on some broken files.
std::string page_from_child(const std::string& path) {
  int ends[2];
  TORCH_CHECK(pipe2(ends, O_CLOEXEC) == 0, "no pipe: ", std::strerror(errno));
  const pid_t child = fork();
  TORCH_CHECK(child >= 0, "no child process: ", std::strerror(errno));
  if (child == 0) {
    close(ends[0]);
    read_in_child(path, ends[1]);
  }
  close(ends[1]);
  const std::string text = receive(ends[0]);
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  TORCH_CHECK_VALUE(!WIFSIGNALED(status), path,
                    ", must be a gradist trace: HDF5 crashes or hangs on it");
  TORCH_CHECK_VALUE(WEXITSTATUS(status) == 0, text);
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
