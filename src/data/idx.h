#pragma once

#include "data/bytes.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace gradist {

/// The array of bytes that an IDX file holds, the format of MNIST: the magic number 0x0000'08'0D
/// for unsigned bytes in D dimensions, D counts, then the values, last dimension fastest; numbers
/// are 32 bits, big-endian.
struct IdxArray {
  std::vector<int64_t> dimensions;
  std::vector<uint8_t> values;
};

/// Magic numbers of the two kinds of files.
enum class IdxKind : uint32_t {
  kLabels = 2049,  ///< [N]
  kImages = 2051,  ///< [N, height, width]
};

/// The dimensions alone, each at least 1.
std::vector<int64_t> parse_idx_header(const ByteReader& read, IdxKind kind,
                                      const std::string& name);

/// Bytes of the header in front of so many dimensions.
constexpr int64_t idx_header_bytes(size_t dimensions) {
  return 4 * (1 + static_cast<int64_t>(dimensions));
}

/// Memory never grows beyond what the data has really delivered by more than a fixed piece,
/// whatever the header promises. `name` is what errors call the data.
IdxArray parse_idx(const ByteReader& read, IdxKind kind, const std::string& name);

/// Reads a file, plain or gzip-compressed (told by its content, not its name).
IdxArray read_idx(const std::filesystem::path& file, IdxKind kind);

}  // namespace gradist
