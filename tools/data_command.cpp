#include "data/data_info.h"
#include "tools/command_line.h"
#include "tools/data_fetch.h"
#include "tools/official_data.h"
#include "tools/program.h"
#include "tools/text.h"

#include <c10/util/Exception.h>

#include <filesystem>
#include <iomanip>

namespace gradist::detail {

namespace {

constexpr const char* kHelp =
    R"(gradist data: what files of training data hold, and where they come from.

  gradist data info PATH      a file, or each file of a folder: format, sizes, classes; every file is
                              read whole, and a damaged one has its error in its line (exit status 1)

  gradist data fetch NAME     the official files of a data set, checked by their checksums; what was
                              cut short is gone on with, what is there is left alone
    --data-dir DIR            where to; a folder NAME if not given
    --url BASE                a mirror: BASE/FILE is fetched instead of the authors' own

Formats: IDX (MNIST), CIFAR-10 and CIFAR-100 (binary version), CSV, LIBSVM, plain or .gz; HDF5; PNG and
JPEG in folders train/<class> and test/<class>.
)";

void print_help(std::ostream& out) {
  out << kHelp << "\nTo be fetched:\n";
  for (const OfficialData& data : official_data()) {
    out << "  " << std::left << std::setw(22) << data.name << data.place << "\n";
  }
}

int info(const std::string& path, const ProgramFaces& faces) {
  TORCH_CHECK_VALUE(std::filesystem::exists(path), path, ": no such file or folder, must exist");
  bool good = true;
  for (const auto& line : describe_data(path)) {
    faces.out << (line.good ? line.file + ": " + line.text : line.text) << "\n";
    good = good && line.good;
  }
  return good ? kDone : kFailed;
}

int fetch(const std::vector<std::string>& arguments, const ProgramFaces& faces) {
  TORCH_CHECK_VALUE(!arguments.empty(), "data fetch, must be given the name of a data set");
  const std::string& name = arguments.front();
  official_data(name);
  const CommandLine line = read_command_line({arguments.begin() + 1, arguments.end()},
                                             {"gradist data fetch", {}, {"data-dir", "url"}}, {});
  const std::string folder = line.text("data-dir");
  return fetch_data({name, folder.empty() ? name : folder, line.text("url")}, faces);
}

}  // namespace

int data_command(const std::vector<std::string>& arguments, const ProgramFaces& faces) {
  const std::string word = arguments.empty() ? "" : arguments[0];
  if (arguments.size() == 1 && (word == "--help" || word == "-h")) {
    print_help(faces.out);
    return kDone;
  }
  if (word == "fetch") return fetch({arguments.begin() + 1, arguments.end()}, faces);
  TORCH_CHECK_VALUE(word == "info", "data ", word, ", must be data info PATH or data fetch NAME");
  TORCH_CHECK_VALUE(arguments.size() == 2, "data info, must be given one file or folder, not ",
                    arguments.size() - 1);
  return info(arguments[1], faces);
}

}  // namespace gradist::detail
