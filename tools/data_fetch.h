#pragma once

#include "tools/program.h"

#include <filesystem>
#include <string>

namespace gradist::detail {

struct FetchOptions {
  std::string name;              ///< a row of official_data
  std::filesystem::path folder;  ///< made if it is not there
  std::string place;             ///< a mirror, up to its files' names; empty: the authors' own
};

/// Fetches the official files of a data set into a folder and unpacks what is packed; files that
/// are there are left alone, once their checksum is looked at. What has no checksum is at least
/// read to its end. Returns the program's exit status.
int fetch_data(const FetchOptions& options, const ProgramFaces& faces);

}  // namespace gradist::detail
