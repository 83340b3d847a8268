#include "data/data_folder.h"
#include "data/data_info.h"
#include "tools/command_line.h"
#include "tools/program.h"
#include "tools/text.h"

#include <c10/util/Exception.h>

#include <filesystem>

namespace gradist::detail {

namespace {

constexpr const char* kHelp =
    R"(gradist data: what files of training data hold.

  gradist data info PATH      a file, or each file of a folder: format, sizes, classes; every file is
                              read whole, and a damaged one has its error in its line (exit status 1)

Formats: IDX (MNIST), CIFAR-10 and CIFAR-100 (binary version), CSV, LIBSVM; plain or .gz.
)";

int info(const std::string& path, const ProgramFaces& faces) {
  TORCH_CHECK_VALUE(std::filesystem::exists(path), path, ": no such file or folder, must exist");
  bool good = true;
  for (const auto& line : describe_data(path)) {
    faces.out << (line.good ? line.file + ": " + line.text : line.text) << "\n";
    good = good && line.good;
  }
  return good ? kDone : kFailed;
}

}  // namespace

int data_command(const std::vector<std::string>& arguments, const ProgramFaces& faces) {
  if (arguments.size() == 1 && (arguments[0] == "--help" || arguments[0] == "-h")) {
    faces.out << kHelp;
    return kDone;
  }
  TORCH_CHECK_VALUE(!arguments.empty() && arguments[0] == "info", "data ",
                    arguments.empty() ? "" : arguments[0], ", must be data info PATH");
  TORCH_CHECK_VALUE(arguments.size() == 2, "data info, must be given one file or folder, not ",
                    arguments.size() - 1);
  return info(arguments[1], faces);
}

}  // namespace gradist::detail
