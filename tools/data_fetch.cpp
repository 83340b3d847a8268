#include "tools/data_fetch.h"

#include "data/data_folder.h"
#include "data/data_info.h"
#include "tools/download.h"
#include "tools/official_data.h"
#include "tools/stop_signals.h"
#include "tools/text.h"
#include "tools/unpack.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <chrono>
#include <system_error>

namespace gradist::detail {
namespace {

namespace fs = std::filesystem;

constexpr int kSignalled = 128;
constexpr double kMegabyte = 1e6;

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  TORCH_CHECK_VALUE(!error && fs::is_directory(folder), "--data-dir = ", folder.string(),
                    ", must be a folder or a place for one",
                    error ? " (" + error.message() + ")" : "");
}

/// A line every few seconds, and whether a signal came.
class FetchProgress {
 public:
  FetchProgress(std::string file, const StopSignals& signals, std::ostream& out)
      : file_(std::move(file)), signals_(signals), out_(out) {}

  bool operator()(int64_t have, int64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (now - shown_ >= std::chrono::seconds(5)) {
      shown_ = now;
      out_ << file_ << ": " << megabytes(have)
           << (total > 0 ? " of " + megabytes(total) : std::string()) << " MB" << std::endl;
    }
    return signals_.caught() == 0;
  }

 private:
  static std::string megabytes(int64_t bytes) {
    return with_separators(std::llround(static_cast<double>(bytes) / kMegabyte));
  }

  std::string file_;
  const StopSignals& signals_;
  std::ostream& out_;
  std::chrono::steady_clock::time_point shown_ = std::chrono::steady_clock::now();
};

/// A file that is there must be the one that would be fetched.
void check_present(const fs::path& file, const Checksum& checksum) {
  if (!checksum.known()) return;
  const std::string found = checksum_of(file, checksum.algorithm);
  TORCH_CHECK_VALUE(found == checksum.hexadecimal, file.string(), ": ", checksum.algorithm, " ",
                    found, ", must be ", checksum.hexadecimal, "; remove it to fetch it again");
}

bool is_present(const OfficialFile& file, const fs::path& folder) {
  if (file.members.empty()) return fs::exists(folder / file.name);
  return std::ranges::all_of(
      file.members, [&](const std::string& member) { return fs::exists(folder / member); });
}

/// A page that says "not found" comes as a file too: without a checksum, only reading tells.
void check_by_reading(const fs::path& file) {
  try {
    describe_data_file(file);
  } catch (const DataError& error) {
    std::error_code ignored;
    fs::remove(file, ignored);
    TORCH_CHECK_VALUE(false, error.what(), "; what came was removed");
  }
}

std::string described(const fs::path& file, const Checksum& checksum) {
  const std::string size = with_separators(static_cast<int64_t>(fs::file_size(file))) + " bytes, ";
  if (checksum.known()) return size + checksum.algorithm + " as it must be";
  return size + "no checksum is published; SHA-256 " + checksum_of(file, "SHA-256");
}

void unpack_and_remove(const OfficialFile& file, const fs::path& folder) {
  const fs::path archive = folder / file.name;
  try {
    unpack(archive, file.members, folder);
  } catch (const c10::ValueError&) {
    std::error_code ignored;
    if (!file.checksum.known()) fs::remove(archive, ignored);  // it can be to blame itself
    throw;
  }
  fs::remove(archive);
}

/// Whether the file is there now; a signal prevents that.
bool fetch(const OfficialFile& file, const std::string& place, const fs::path& folder,
           const StopSignals& signals, const ProgramFaces& faces) {
  const fs::path path = folder / file.name;
  if (is_present(file, folder)) {
    if (file.members.empty()) check_present(path, file.checksum);
    faces.out << path.string() << ": there already" << std::endl;
    return true;
  }
  FetchProgress progress(file.name, signals, faces.err);
  if (!download({place + file.name, path, file.checksum}, std::ref(progress))) return false;
  if (file.members.empty() && !file.checksum.known()) check_by_reading(path);
  faces.out << path.string() << ": " << described(path, file.checksum) << std::endl;
  if (file.members.empty()) return true;
  unpack_and_remove(file, folder);
  for (const std::string& member : file.members) {
    faces.out << (folder / member).string() << ": unpacked" << std::endl;
  }
  return true;
}

}  // namespace

int fetch_data(const FetchOptions& options, const ProgramFaces& faces) {
  const OfficialData& data = official_data(options.name);
  std::string place = options.place.empty() ? data.place : options.place;
  if (!place.ends_with('/')) place += '/';
  make_folder(options.folder);
  const StopSignals signals;
  for (const OfficialFile& file : data.files) {
    if (!fetch(file, place, options.folder, signals, faces)) {
      faces.err << "gradist: stopped; the same command goes on from there" << std::endl;
      return kSignalled + signals.caught();
    }
  }
  faces.out << "gradist run " << data.run << " --data-dir " << shell_word(options.folder.string())
            << std::endl;
  return kDone;
}

}  // namespace gradist::detail
