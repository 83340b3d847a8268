#include "storage/output_place.h"

#include <c10/util/Exception.h>
#include <unistd.h>

#include <filesystem>

namespace gradist::detail {

void check_output_place(const std::string& path, bool overwrite) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  const fs::path folder =
      fs::path(path).has_parent_path() ? fs::path(path).parent_path() : fs::path(".");
  TORCH_CHECK_VALUE(fs::is_directory(folder, ignored), "out = ", path,
                    ", must be in an existing folder");
  TORCH_CHECK_VALUE(access(folder.c_str(), W_OK | X_OK) == 0, "out = ", path,
                    ", must be in a writable folder");
  const fs::file_status status = fs::status(path, ignored);
  TORCH_CHECK_VALUE(!fs::exists(status) || fs::is_regular_file(status), "out = ", path,
                    ", must be a regular file");
  // Replacing it needs no permission of its own, but write-protecting it meant something.
  TORCH_CHECK_VALUE(!fs::exists(status) || !overwrite || access(path.c_str(), W_OK) == 0,
                    "out = ", path, ", must be writable to be overwritten");
  TORCH_CHECK_VALUE(!fs::exists(status) || overwrite, "out = ", path,
                    ", must not exist without overwrite");
}

void publish_file(const std::string& temporary, const std::string& path, bool overwrite) {
  check_output_place(path, overwrite);
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  TORCH_CHECK_VALUE(!error, path, ", cannot be written: ", error.message());
}

}  // namespace gradist::detail
