#pragma once

#include "data/bytes.h"

#include <c10/util/Exception.h>

#include <filesystem>
#include <string>
#include <vector>

namespace gradist {

/// The folder that --data-dir names for data set `name`, which must be one; `files` is what it must
/// hold, as errors say it.
std::filesystem::path data_folder(const std::string& name, const std::string& data_dir,
                                  const std::string& files);

/// The files in a folder, by name.
std::vector<std::filesystem::path> files_of(const std::filesystem::path& folder);

/// What `read` returns; the errors of a reader become those of a user's mistake.
template <typename Read>
auto checked(const Read& read) {
  try {
    return read();
  } catch (const DataError& error) {
    TORCH_CHECK_VALUE(false, error.what());
  }
}

}  // namespace gradist
