#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace gradist {

/// A picture: grey or of red, green and blue, a byte each.
struct Image {
  int64_t channels = 0, height = 0, width = 0;
  std::vector<uint8_t> pixels;  ///< [height, width, channels], as files hold them
};

/// Decodes a PNG or JPEG file, told by its content. 16 bits a channel become 8, a palette the
/// colours it stands for. Refused, each as a DataError of one line: other formats, transparency,
/// other colours than grey and RGB, more than 2^24 pixels, anything damaged (also what a decoder
/// would pass over with a warning). `name` is what errors call the file.
Image decode_image(std::span<const uint8_t> bytes, const std::string& name);

/// Reads a file of at most 2^28 bytes.
Image read_image(const std::filesystem::path& file);

namespace detail {

/// Whether bytes begin as the format's files do, and their decoders.
bool is_png(std::span<const uint8_t> bytes);
bool is_jpeg(std::span<const uint8_t> bytes);
Image decode_png(std::span<const uint8_t> bytes, const std::string& name);
Image decode_jpeg(std::span<const uint8_t> bytes, const std::string& name);

/// Refuses an image of more pixels than images have here.
void check_image_size(int64_t height, int64_t width, const std::string& name);

}  // namespace detail

}  // namespace gradist
