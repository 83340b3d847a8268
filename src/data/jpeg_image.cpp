// JPEG by libjpeg.
#include "data/bytes.h"
#include "data/image_file.h"

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdio>

#include <jpeglib.h>

namespace gradist::detail {
namespace {

constexpr long kMostMemory = 1L << 28;

/// One file being decoded. libjpeg leaves it by longjmp, so nothing here lives on the stack below.
struct Decoder {
  jpeg_decompress_struct jpeg = {};
  jpeg_error_mgr errors = {};
  std::jmp_buf back = {};
  std::array<char, JMSG_LENGTH_MAX> problem = {};
  Image image;

  Decoder() = default;
  ~Decoder() { jpeg_destroy_decompress(&jpeg); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
};

[[noreturn]] void fail(j_common_ptr jpeg) {
  auto& decoder = *static_cast<Decoder*>(jpeg->client_data);
  jpeg->err->format_message(jpeg, decoder.problem.data());
  std::longjmp(decoder.back, 1);
}

/// libjpeg fills with grey what a damaged file lacks, and warns: here that is an error. Positive
/// levels are remarks for those who trace it.
void judge(j_common_ptr jpeg, int level) {
  if (level < 0) fail(jpeg);
}

void read_head(Decoder& decoder, std::span<const uint8_t> bytes) {
  jpeg_create_decompress(&decoder.jpeg);
  decoder.jpeg.client_data = &decoder;
  decoder.jpeg.mem->max_memory_to_use = kMostMemory;
  jpeg_mem_src(&decoder.jpeg, bytes.data(), static_cast<unsigned long>(bytes.size()));
  jpeg_read_header(&decoder.jpeg, TRUE);
  const bool grey = decoder.jpeg.jpeg_color_space == JCS_GRAYSCALE;
  decoder.jpeg.out_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
  decoder.image.channels = grey ? 1 : 3;
  decoder.image.height = decoder.jpeg.image_height;
  decoder.image.width = decoder.jpeg.image_width;
}

void read_rows(Decoder& decoder) {
  jpeg_start_decompress(&decoder.jpeg);
  const auto length = static_cast<size_t>(decoder.image.width * decoder.image.channels);
  while (decoder.jpeg.output_scanline < decoder.jpeg.output_height) {
    JSAMPROW row = decoder.image.pixels.data() + decoder.jpeg.output_scanline * length;
    jpeg_read_scanlines(&decoder.jpeg, &row, 1);
  }
  jpeg_finish_decompress(&decoder.jpeg);
}

/// Calls libjpeg; false where it failed.
template <class Call>
bool guarded(Decoder& decoder, const Call& call) {
  if (setjmp(decoder.back) != 0) return false;
  call();
  return true;
}

bool has_known_colours(const jpeg_decompress_struct& jpeg) {
  return jpeg.jpeg_color_space == JCS_GRAYSCALE || jpeg.jpeg_color_space == JCS_RGB ||
         jpeg.jpeg_color_space == JCS_YCbCr;
}

}  // namespace

bool is_jpeg(std::span<const uint8_t> bytes) {
  return bytes.size() >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

Image decode_jpeg(std::span<const uint8_t> bytes, const std::string& name) {
  Decoder decoder;
  decoder.jpeg.err = jpeg_std_error(&decoder.errors);
  decoder.errors.error_exit = fail;
  decoder.errors.emit_message = judge;
  decoder.jpeg.client_data = &decoder;
  bool good = guarded(decoder, [&] { read_head(decoder, bytes); });
  if (good) {
    if (!has_known_colours(decoder.jpeg)) {
      refuse_data(name, "neither grey nor RGB, must be one of them");
    }
    check_image_size(decoder.image.height, decoder.image.width, name);
    decoder.image.pixels.resize(
        static_cast<size_t>(decoder.image.height * decoder.image.width * decoder.image.channels));
    good = guarded(decoder, [&] { read_rows(decoder); });
  }
  if (!good) {
    refuse_data(name,
                "damaged (" + std::string(decoder.problem.data()) + "), must be a whole JPEG file");
  }
  return std::move(decoder.image);
}

}  // namespace gradist::detail
