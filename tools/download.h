#pragma once

#include "tools/checksum.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace gradist::detail {

/// A file to be had by HTTP.
struct Download {
  std::string url;
  std::filesystem::path file;
  Checksum checksum = {};
};

/// Told the bytes there are and how many there will be (0: the server did not say); false stops.
using DownloadProgress = std::function<bool(int64_t have, int64_t total)>;

/// Fetches a file; false if `progress` stopped it. The bytes go to `<file>.part`, which is renamed
/// when it is whole and its checksum right. A `.part` that is there is gone on with from its end
/// (Range, RFC 9110), as is a connection that breaks, while each try brings something; a server
/// without ranges sends all again. Where no checksum would tell two versions of a file apart, the
/// range is asked for on condition that the file is still that of the `.part`'s date (If-Range).
/// A file of a wrong checksum is removed. Every failure is a ValueError of one line.
bool download(const Download& wanted, const DownloadProgress& progress);

}  // namespace gradist::detail
