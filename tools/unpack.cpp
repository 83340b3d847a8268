#include "tools/unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <system_error>

namespace gradist::detail {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPiece = size_t{1} << 16;

/// An archive opened for reading.
class Archive {
 public:
  explicit Archive(const fs::path& file) : name_(file.string()) {
    archive_read_support_filter_gzip(handle_.get());
    archive_read_support_format_tar(handle_.get());
    archive_read_support_format_zip(handle_.get());
    check(archive_read_open_filename(handle_.get(), name_.c_str(), kPiece));
  }

  /// The next entry, null at the end.
  archive_entry* next() {
    archive_entry* entry = nullptr;
    const int status = archive_read_next_header(handle_.get(), &entry);
    return status == ARCHIVE_EOF ? nullptr : (check(status), entry);
  }

  /// Writes the present entry, checksums of the archive included.
  void write(const fs::path& file) {
    std::ofstream stream(file, std::ios::binary);
    std::vector<char> piece(kPiece);
    while (true) {
      const la_ssize_t got = archive_read_data(handle_.get(), piece.data(), piece.size());
      if (got < 0) check(static_cast<int>(got));
      if (got == 0) break;
      stream.write(piece.data(), got);
    }
    stream.close();
    TORCH_CHECK_VALUE(stream.good(), file.string(), ": cannot be written, must be writable");
  }

 private:
  void check(int status) const {
    const char* reason = archive_error_string(handle_.get());
    TORCH_CHECK_VALUE(status >= ARCHIVE_WARN, name_, ": damaged (",
                      reason == nullptr ? "unknown error" : reason, "), must be a whole archive");
  }

  std::string name_;
  std::unique_ptr<archive, int (*)(archive*)> handle_{archive_read_new(), archive_read_free};
};

}  // namespace

void unpack(const fs::path& archive, const std::vector<std::string>& members,
            const fs::path& folder) {
  Archive opened(archive);
  std::vector<std::string> missing = members;
  while (archive_entry* entry = opened.next()) {
    const char* path = archive_entry_pathname(entry);
    const std::string name = path == nullptr ? "" : fs::path(path).filename().string();
    const auto wanted = std::find(missing.begin(), missing.end(), name);
    if (wanted == missing.end() || archive_entry_filetype(entry) != AE_IFREG) continue;
    const fs::path part = folder / (name + ".part");
    opened.write(part);
    std::error_code error;
    fs::rename(part, folder / name, error);
    TORCH_CHECK_VALUE(!error, (folder / name).string(), ": cannot be written (", error.message(),
                      ")");
    missing.erase(wanted);
  }
  TORCH_CHECK_VALUE(missing.empty(), archive.string(), ": holds no ",
                    missing.empty() ? "" : missing.front(), ", must hold it");
}

}  // namespace gradist::detail
