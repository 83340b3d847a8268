#include "tools/program.h"

#include "tools/text.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

namespace gradist {

namespace {

constexpr const char* kHelp =
    R"(gradist: how the gradients of single training examples are distributed along an SGD trajectory,
and how well each estimator of their mean does.

  gradist run [OPTION...]     train, measure the estimators on the way, write a trace
  gradist rf [OPTION...]      sweep over Random Features models, or put sweeps together
  gradist check [OPTION...]   per-example gradients of a network against one-by-one autograd
  gradist data info PATH      what files of training data hold
  gradist data fetch NAME     the official files of a data set, from the network
  gradist info TRACE          a trace in a page of text
  gradist report TRACE        a trace as a page with plots (in the Python package)

  gradist run --help          the options of a run, with examples; likewise rf, check, data
  gradist --list-presets      named settings that reproduce the papers
  gradist --version

Start with `gradist run`: it trains a small network on handwritten digits in under a minute.
)";

constexpr const char* kOutOfMemory =
    "out of memory; a smaller network or a smaller --max-memory needs less";

int report_command() {
  TORCH_CHECK_VALUE(
      false,
      "report, must be run from the Python package (pip install gradist), which draws the plots");
}

int dispatch(const std::vector<std::string>& arguments, const ProgramFaces& faces) {
  const std::string command = arguments.empty() ? "--help" : arguments.front();
  const std::vector<std::string> rest(arguments.begin() + (arguments.empty() ? 0 : 1),
                                      arguments.end());
  if (command == "run") {
    return detail::run_command(rest, faces);
  }
  if (command == "rf") {
    return detail::rf_command(rest, faces);
  }
  if (command == "check") {
    return detail::check_command(rest, faces);
  }
  if (command == "data") {
    return detail::data_command(rest, faces);
  }
  if (command == "info") {
    return detail::info_command(rest, faces);
  }
  if (command == "report") {
    return report_command();
  }
  TORCH_CHECK_VALUE(rest.empty(), rest.front(), ", must not follow ", command);
  if (command == "--help" || command == "-h" || command == "help") {
    faces.out << kHelp;
  } else if (command == "--version") {
    faces.out << "gradist " << GRADIST_VERSION << '\n';
  } else if (command == "--list-presets") {
    faces.out << detail::all_presets();
  } else {
    TORCH_CHECK_VALUE(
        false, command,
        ", must be one of run|rf|check|data|info|report|--help|--version|--list-presets");
  }
  return kDone;
}

int run_to_the_last_byte(const std::vector<std::string>& arguments, const ProgramFaces& faces) {
  errno = 0;
  const int status = dispatch(arguments, faces);
  faces.out.flush();
  TORCH_CHECK_VALUE(faces.out.good(), "standard output, must be writable: ", std::strerror(errno));
  return status;
}

/// torch's CPU allocator reports a lack of memory as it does any other failure.
bool is_lack_of_memory(const std::string& message) {
  return message.find("can't allocate memory") != std::string::npos ||
         message.find("Storage size calculation overflowed") != std::string::npos;
}

/// A name with a line break in it would make two lines of one error.
std::string on_one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', '?');
  return text;
}

int fail(const ProgramFaces& faces, int status, const std::string& message) {
  faces.err << "gradist: " << message.substr(0, message.find('\n')) << std::endl;
  return status;
}

}  // namespace

int run_program(const std::vector<std::string>& arguments, const ProgramFaces& faces) {
  try {
    return run_to_the_last_byte(arguments, faces);
  } catch (const c10::ValueError& error) {
    return fail(faces, kRefused, on_one_line(error.what_without_backtrace()));
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    return fail(faces, kFailed, is_lack_of_memory(message) ? kOutOfMemory : message);
  } catch (const std::bad_alloc&) {
    return fail(faces, kFailed, kOutOfMemory);
  } catch (const std::exception& error) {
    return fail(faces, kFailed, error.what());
  }
}

}  // namespace gradist
