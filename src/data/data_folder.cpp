#include "data/data_folder.h"

#include <algorithm>
#include <system_error>

namespace gradist {

namespace fs = std::filesystem;

fs::path data_folder(const std::string& name, const std::string& data_dir,
                     const std::string& files) {
  TORCH_CHECK_VALUE(!data_dir.empty(),
                    "data-dir = \"\", must name the folder that holds the files of ", name, ": ",
                    files);
  std::error_code error;
  TORCH_CHECK_VALUE(fs::is_directory(data_dir, error), "data-dir = ", data_dir,
                    ", no such folder, must hold ", files);
  return data_dir;
}

std::vector<fs::path> files_of(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    files.push_back(entry->path());
  }
  TORCH_CHECK_VALUE(!error, "data-dir = ", folder.string(), ", cannot be listed (", error.message(),
                    "), must be readable");
  std::ranges::sort(files);
  return files;
}

}  // namespace gradist
