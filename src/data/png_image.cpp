// PNG by libpng.
#include "data/bytes.h"
#include "data/image_file.h"

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

namespace gradist::detail {
namespace {

constexpr size_t kSignature = 8;
constexpr png_uint_32 kMostSide = png_uint_32{1} << 24;
constexpr int kByte = 8, kWide = 16;

/// One file being decoded. libpng leaves it by longjmp, so nothing here lives on the stack below.
struct Decoder {
  std::span<const uint8_t> bytes;
  size_t position = 0;
  std::string problem;  ///< why it failed
  Image image;
  std::vector<png_bytep> rows;
  png_structp png = nullptr;
  png_infop info = nullptr;

  explicit Decoder(std::span<const uint8_t> given) : bytes(given) {}
  ~Decoder() { png_destroy_read_struct(&png, &info, nullptr); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
};

[[noreturn]] void fail(png_structp png, png_const_charp message) {
  static_cast<Decoder*>(png_get_error_ptr(png))->problem = message;
  png_longjmp(png, 1);
}

/// What libpng only warns of (a wrong checksum in a chunk of no importance) changes no pixel.
void pass_over(png_structp, png_const_charp) {}

void deliver(png_structp png, png_bytep into, size_t count) {
  auto& decoder = *static_cast<Decoder*>(png_get_io_ptr(png));
  if (count > decoder.bytes.size() - decoder.position) png_error(png, "truncated");
  std::memcpy(into, decoder.bytes.data() + decoder.position, count);
  decoder.position += count;
}

/// Up to the pixels, which are then grey or RGB of a byte each.
void read_head(Decoder& decoder) {
  png_structp png = decoder.png;
  png_set_user_limits(png, kMostSide, kMostSide);
  png_set_read_fn(png, &decoder, deliver);
  png_read_info(png, decoder.info);
  const int colours = png_get_color_type(png, decoder.info);
  if ((colours & PNG_COLOR_MASK_ALPHA) != 0 ||
      png_get_valid(png, decoder.info, PNG_INFO_tRNS) != 0) {
    png_error(png, "transparency, must have none");
  }
  if (png_get_bit_depth(png, decoder.info) == kWide) png_set_scale_16(png);
  if (colours == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (colours == PNG_COLOR_TYPE_GRAY && png_get_bit_depth(png, decoder.info) < kByte) {
    png_set_expand_gray_1_2_4_to_8(png);
  }
  png_set_interlace_handling(png);
  png_read_update_info(png, decoder.info);
  decoder.image.channels = png_get_channels(png, decoder.info);
  decoder.image.height = png_get_image_height(png, decoder.info);
  decoder.image.width = png_get_image_width(png, decoder.info);
}

/// Calls libpng; false where it failed.
template <class Call>
bool guarded(Decoder& decoder, const Call& call) {
  if (setjmp(png_jmpbuf(decoder.png)) != 0) return false;
  call();
  return true;
}

void make_room(Decoder& decoder) {
  Image& image = decoder.image;
  const auto length = static_cast<size_t>(image.width * image.channels);
  image.pixels.resize(static_cast<size_t>(image.height) * length);
  for (size_t y = 0; y < static_cast<size_t>(image.height); ++y) {
    decoder.rows.push_back(image.pixels.data() + y * length);
  }
}

}  // namespace

bool is_png(std::span<const uint8_t> bytes) {
  return bytes.size() >= kSignature && png_sig_cmp(bytes.data(), 0, kSignature) == 0;
}

Image decode_png(std::span<const uint8_t> bytes, const std::string& name) {
  Decoder decoder(bytes);
  decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, fail, pass_over);
  decoder.info = png_create_info_struct(decoder.png);
  bool good = guarded(decoder, [&] { read_head(decoder); });
  if (good) {
    check_image_size(decoder.image.height, decoder.image.width, name);
    make_room(decoder);
    good = guarded(decoder, [&] {
      png_read_image(decoder.png, decoder.rows.data());
      png_read_end(decoder.png, nullptr);
    });
  }
  if (!good) {
    const bool rule = decoder.problem.find("must") != std::string::npos;
    refuse_data(name, rule ? decoder.problem
                           : "damaged (" + decoder.problem + "), must be a whole PNG file");
  }
  return std::move(decoder.image);
}

}  // namespace gradist::detail
