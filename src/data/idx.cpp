#include "data/idx.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <system_error>

namespace gradist {
namespace {

constexpr size_t kPiece = size_t{1} << 24;  // bytes read at once
constexpr size_t kWord = 4;                 // bytes of a number in the header
constexpr uint64_t kMostValues = uint64_t{1} << 31;

[[noreturn]] void fail(const std::string& name, const std::string& what) {
  throw IdxError(name + ": " + what);
}

uint32_t read_word(const ByteReader& read, const std::string& name, size_t position) {
  std::array<uint8_t, kWord> bytes{};
  size_t got = read(bytes);
  if (position + got == 0) fail(name, "empty file, must begin with a magic number");
  if (got < kWord) {
    fail(name, "header ends after " + std::to_string(position + got) +
                   " bytes, must have at least " + std::to_string(position + kWord));
  }
  uint32_t word = 0;
  for (uint8_t byte : bytes) word = (word << 8) | byte;
  return word;
}

std::string joined(const std::vector<int64_t>& dimensions) {
  std::string text;
  for (int64_t count : dimensions) text += (text.empty() ? "" : " x ") + std::to_string(count);
  return text;
}

/// The product of the dimensions, each at least 1.
size_t count_values(const std::vector<int64_t>& dimensions, const std::string& name) {
  uint64_t values = 1;
  for (int64_t count : dimensions) {
    if (count == 0) fail(name, "dimensions " + joined(dimensions) + ", each must be at least 1");
    if (static_cast<uint64_t>(count) > kMostValues / values) {
      fail(name, "dimensions " + joined(dimensions) + ", must hold at most " +
                     std::to_string(kMostValues) + " values");
    }
    values *= static_cast<uint64_t>(count);
  }
  return values;
}

std::vector<int64_t> read_dimensions(const ByteReader& read, IdxKind kind,
                                     const std::string& name) {
  uint32_t magic = read_word(read, name, 0);
  auto expected = static_cast<uint32_t>(kind);
  if (magic != expected) {
    fail(name, "magic number " + std::to_string(magic) + ", must be " + std::to_string(expected) +
                   (kind == IdxKind::kImages ? " (IDX images)" : " (IDX labels)"));
  }
  std::vector<int64_t> dimensions(expected & 0xff);
  for (size_t i = 0; i < dimensions.size(); ++i)
    dimensions[i] = read_word(read, name, (i + 1) * kWord);
  return dimensions;
}

std::vector<uint8_t> read_values(const ByteReader& read, size_t count) {
  std::vector<uint8_t> values;
  while (values.size() < count) {
    size_t have = values.size();
    size_t piece = std::min(count - have, kPiece);
    values.resize(have + piece);
    size_t got = read(std::span(values).subspan(have));
    if (got < piece) {
      values.resize(have + got);
      break;
    }
  }
  return values;
}

/// A file opened through zlib, which passes plain files on as they are.
class GzipFile {
 public:
  explicit GzipFile(const std::filesystem::path& file) : name_(file.string()) {
    std::error_code error;
    auto status = std::filesystem::status(file, error);
    if (!std::filesystem::exists(status)) fail(name_, "no such file, must exist");
    if (!std::filesystem::is_regular_file(status)) fail(name_, "not a file, must be one");
    handle_.reset(gzopen(name_.c_str(), "rb"));
    if (!handle_)
      fail(name_, std::string("cannot be opened (") + std::strerror(errno) + "), must be readable");
    gzbuffer(handle_.get(), kBuffer);
  }

  size_t read(std::span<uint8_t> into) {
    int got = gzread(handle_.get(), into.data(), static_cast<unsigned>(into.size()));
    int code = Z_OK;
    std::string problem = gzerror(handle_.get(), &code);
    if (got < 0 || code < 0)
      fail(name_, "damaged (" + without_name(problem) + "), must decompress to its end");
    return static_cast<size_t>(got);
  }

 private:
  static constexpr unsigned kBuffer = 1U << 17;

  struct Close {
    void operator()(gzFile_s* handle) const { gzclose(handle); }
  };

  /// zlib begins its messages with the file's name, as we do.
  std::string without_name(const std::string& problem) const {
    std::string prefix = name_ + ": ";
    return problem.starts_with(prefix) ? problem.substr(prefix.size()) : problem;
  }

  std::string name_;
  std::unique_ptr<gzFile_s, Close> handle_;
};

static_assert(kPiece <= static_cast<size_t>(std::numeric_limits<int>::max()),
              "gzread counts in int");

}  // namespace

IdxArray parse_idx(const ByteReader& read, IdxKind kind, const std::string& name) {
  IdxArray array;
  array.dimensions = read_dimensions(read, kind, name);
  size_t count = count_values(array.dimensions, name);
  array.values = read_values(read, count);
  if (array.values.size() < count) {
    fail(name, "truncated, holds " + std::to_string(array.values.size()) + " values, must hold " +
                   std::to_string(count) + " (" + joined(array.dimensions) + ")");
  }
  std::array<uint8_t, 1> trailing{};
  if (read(trailing) != 0) {
    fail(name, "bytes after the last value, must end after " + std::to_string(count) + " values (" +
                   joined(array.dimensions) + ")");
  }
  return array;
}

IdxArray read_idx(const std::filesystem::path& file, IdxKind kind) {
  GzipFile bytes(file);
  return parse_idx([&bytes](std::span<uint8_t> into) { return bytes.read(into); }, kind,
                   file.string());
}

}  // namespace gradist
