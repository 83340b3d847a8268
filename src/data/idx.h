#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace gradist {

/// The array of bytes that an IDX file holds, the format of MNIST: the magic number 0x0000'08'0D
/// for unsigned bytes in D dimensions, D counts, then the values, last dimension fastest; numbers
/// are 32 bits, big-endian. This reader knows nothing of torch.
struct IdxArray {
  std::vector<int64_t> dimensions;
  std::vector<uint8_t> values;
};

/// Magic numbers of the two kinds of files.
enum class IdxKind : uint32_t {
  kLabels = 2049,  ///< [N]
  kImages = 2051,  ///< [N, height, width]
};

/// A file that is not what it should be; the message is one line with file, value and rule.
class IdxError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Fills the span and returns how many bytes it wrote: fewer than asked for only at the end of the
/// data.
using ByteReader = std::function<size_t(std::span<uint8_t>)>;

/// Memory never grows beyond what the data has really delivered by more than a fixed piece,
/// whatever the header promises. `name` is what errors call the data.
IdxArray parse_idx(const ByteReader& read, IdxKind kind, const std::string& name);

/// Reads a file, plain or gzip-compressed (told by its content, not its name).
IdxArray read_idx(const std::filesystem::path& file, IdxKind kind);

}  // namespace gradist
