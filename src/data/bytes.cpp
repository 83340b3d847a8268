#include "data/bytes.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <system_error>

namespace gradist {
namespace {

constexpr size_t kFirstPiece = size_t{1} << 16, kPiece = size_t{1} << 24;  // bytes read at once
constexpr unsigned kBuffer = 1U << 17;  // zlib's, of compressed bytes

static_assert(kPiece <= static_cast<size_t>(std::numeric_limits<int>::max()),
              "gzread counts in int");

/// zlib begins its messages with the file's name, as we do.
std::string without_name(const std::string& problem, const std::string& name) {
  const std::string prefix = name + ": ";
  return problem.starts_with(prefix) ? problem.substr(prefix.size()) : problem;
}

/// Its name, once it is one.
std::string name_of_file(const std::filesystem::path& file) {
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (!std::filesystem::exists(status)) refuse_data(file.string(), "no such file, must exist");
  if (!std::filesystem::is_regular_file(status)) {
    refuse_data(file.string(), "not a file, must be one");
  }
  return file.string();
}

[[noreturn]] void refuse_unreadable(const std::string& name) {
  refuse_data(name,
              std::string("cannot be opened (") + std::strerror(errno) + "), must be readable");
}

}  // namespace

void refuse_data(const std::string& name, const std::string& what) {
  throw DataError(name + ": " + what);
}

size_t append_bytes(const ByteReader& read, size_t count, std::vector<uint8_t>& values) {
  const size_t before = values.size();
  while (values.size() - before < count) {
    const size_t have = values.size();
    const size_t piece = std::min(count - (have - before), std::clamp(have, kFirstPiece, kPiece));
    values.resize(have + piece);
    const size_t got = read(std::span(values).subspan(have));
    if (got < piece) {
      values.resize(have + got);
      break;
    }
  }
  return values.size() - before;
}

ByteFile::ByteFile(const std::filesystem::path& file) : name_(name_of_file(file)) {
  handle_.reset(gzopen(name_.c_str(), "rb"));
  if (!handle_) refuse_unreadable(name_);
  gzbuffer(handle_.get(), kBuffer);
}

void ByteFile::Close::operator()(gzFile_s* handle) const { gzclose(handle); }

size_t ByteFile::read(std::span<uint8_t> into) {
  const int got = gzread(handle_.get(), into.data(), static_cast<unsigned>(into.size()));
  int code = Z_OK;
  const std::string problem = gzerror(handle_.get(), &code);
  if (got < 0 || code < 0) {
    refuse_data(name_,
                "damaged (" + without_name(problem, name_) + "), must decompress to its end");
  }
  return static_cast<size_t>(got);
}

ByteReader ByteFile::reader() {
  return [this](std::span<uint8_t> into) { return read(into); };
}

PlainFile::PlainFile(const std::filesystem::path& file)
    : name_(name_of_file(file)), handle_(open(name_.c_str(), O_RDONLY | O_CLOEXEC)) {
  if (handle_.id < 0) refuse_unreadable(name_);
  state_ = now();
  std::array<uint8_t, 2> head = {};
  if (read(0, head) == 2 && head[0] == 0x1f && head[1] == 0x8b) {
    refuse_data(name_, "compressed, must be plain where stream = yes");
  }
}

PlainFile::Handle::~Handle() { close(id); }

PlainFile::State PlainFile::now() const {
  struct stat status = {};
  if (fstat(handle_.id, &status) != 0) return {};
  return {status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec};
}

void PlainFile::check_unchanged() const {
  if (now() != state_) refuse_data(name_, "has changed, must not while it is read");
}

size_t PlainFile::read(int64_t position, std::span<uint8_t> into) const {
  size_t have = 0;
  while (have < into.size()) {
    const ssize_t got = pread(handle_.id, into.data() + have, into.size() - have,
                              position + static_cast<int64_t>(have));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      refuse_data(name_, std::string("cannot be read (") + std::strerror(errno) + ")");
    }
    if (got == 0) break;
    have += static_cast<size_t>(got);
  }
  check_unchanged();
  return have;
}

ByteReader PlainFile::reader() const {
  return [this, position = int64_t{0}](std::span<uint8_t> into) mutable {
    const size_t got = read(position, into);
    position += static_cast<int64_t>(got);
    return got;
  };
}

}  // namespace gradist
