#include "data/image_file.h"

#include "data/bytes.h"

#include <algorithm>
#include <fstream>
#include <system_error>

namespace gradist {
namespace {

constexpr int64_t kMostPixels = int64_t{1} << 24;
constexpr size_t kMostBytes = size_t{1} << 28;

}  // namespace

void detail::check_image_size(int64_t height, int64_t width, const std::string& name) {
  if (height < 1 || width < 1 || height > kMostPixels / width) {
    refuse_data(name, std::to_string(height) + " x " + std::to_string(width) +
                          " pixels, must be at least one and at most " +
                          std::to_string(kMostPixels));
  }
}

Image decode_image(std::span<const uint8_t> bytes, const std::string& name) {
  if (detail::is_png(bytes)) return detail::decode_png(bytes, name);
  if (detail::is_jpeg(bytes)) return detail::decode_jpeg(bytes, name);
  refuse_data(name, "neither PNG nor JPEG, must be one of them");
}

Image read_image(const std::filesystem::path& file) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) {
    refuse_data(file.string(), "not a file, must be one");
  }
  std::ifstream stream(file, std::ios::binary);
  if (!stream) refuse_data(file.string(), "cannot be opened, must be readable");
  std::vector<uint8_t> bytes;
  append_bytes(
      [&](std::span<uint8_t> into) {
        stream.read(reinterpret_cast<char*>(into.data()),
                    static_cast<std::streamsize>(into.size()));
        return static_cast<size_t>(stream.gcount());
      },
      kMostBytes, bytes);
  if (bytes.size() == kMostBytes) {
    refuse_data(file.string(), "must have less than " + std::to_string(kMostBytes) + " bytes");
  }
  return decode_image(bytes, file.string());
}

}  // namespace gradist
