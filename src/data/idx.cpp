#include "data/idx.h"

#include <array>

namespace gradist {
namespace {

constexpr size_t kWord = 4;  // bytes of a number in the header
constexpr uint64_t kMostValues = uint64_t{1} << 31;

uint32_t read_word(const ByteReader& read, const std::string& name, size_t position) {
  std::array<uint8_t, kWord> bytes{};
  size_t got = read(bytes);
  if (position + got == 0) refuse_data(name, "empty file, must begin with a magic number");
  if (got < kWord) {
    refuse_data(name, "header ends after " + std::to_string(position + got) +
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
    if (count == 0)
      refuse_data(name, "dimensions " + joined(dimensions) + ", each must be at least 1");
    if (static_cast<uint64_t>(count) > kMostValues / values) {
      refuse_data(name, "dimensions " + joined(dimensions) + ", must hold at most " +
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
    refuse_data(name, "magic number " + std::to_string(magic) + ", must be " +
                          std::to_string(expected) +
                          (kind == IdxKind::kImages ? " (IDX images)" : " (IDX labels)"));
  }
  std::vector<int64_t> dimensions(expected & 0xff);
  for (size_t i = 0; i < dimensions.size(); ++i)
    dimensions[i] = read_word(read, name, (i + 1) * kWord);
  return dimensions;
}

}  // namespace

std::vector<int64_t> parse_idx_header(const ByteReader& read, IdxKind kind,
                                      const std::string& name) {
  std::vector<int64_t> dimensions = read_dimensions(read, kind, name);
  count_values(dimensions, name);
  return dimensions;
}

IdxArray parse_idx(const ByteReader& read, IdxKind kind, const std::string& name) {
  IdxArray array;
  array.dimensions = read_dimensions(read, kind, name);
  size_t count = count_values(array.dimensions, name);
  if (append_bytes(read, count, array.values) < count) {
    refuse_data(name, "truncated, holds " + std::to_string(array.values.size()) +
                          " values, must hold " + std::to_string(count) + " (" +
                          joined(array.dimensions) + ")");
  }
  std::array<uint8_t, 1> trailing{};
  if (read(trailing) != 0) {
    refuse_data(name, "bytes after the last value, must end after " + std::to_string(count) +
                          " values (" + joined(array.dimensions) + ")");
  }
  return array;
}

IdxArray read_idx(const std::filesystem::path& file, IdxKind kind) {
  ByteFile bytes(file);
  return parse_idx(bytes.reader(), kind, file.string());
}

}  // namespace gradist
