#pragma once

#include "tools/checksum.h"

#include <string>
#include <vector>

namespace gradist::detail {

/// A file as the authors of a data set publish it.
struct OfficialFile {
  std::string name;
  Checksum checksum = {};
  std::vector<std::string> members = {};  ///< of an archive: the files that are taken from it
};

/// A data set that can be had from the network.
struct OfficialData {
  std::string name;   ///< what `data fetch` calls it
  std::string run;    ///< how a run takes it: the options but for --data-dir
  std::string place;  ///< where its files are, up to the last slash
  std::vector<OfficialFile> files;
};

/// The one table of them.
const std::vector<OfficialData>& official_data();

/// The row of that name; a ValueError with all names if there is none.
const OfficialData& official_data(const std::string& name);

}  // namespace gradist::detail
