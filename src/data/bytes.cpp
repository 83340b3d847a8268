#include "data/bytes.h"

#include <zlib.h>

#include <algorithm>
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

ByteFile::ByteFile(const std::filesystem::path& file) : name_(file.string()) {
  std::error_code error;
  const auto status = std::filesystem::status(file, error);
  if (!std::filesystem::exists(status)) refuse_data(name_, "no such file, must exist");
  if (!std::filesystem::is_regular_file(status)) refuse_data(name_, "not a file, must be one");
  handle_.reset(gzopen(name_.c_str(), "rb"));
  if (!handle_) {
    refuse_data(name_,
                std::string("cannot be opened (") + std::strerror(errno) + "), must be readable");
  }
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

}  // namespace gradist
