#include "data/image_file.h"

#include "data/files.h"

#include <gmock/gmock.h>
#include <png.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>

#include <jpeglib.h>

namespace gradist {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

using Bytes = std::vector<uint8_t>;

Image ramp(int64_t channels, int64_t height, int64_t width) {
  Image image{.channels = channels, .height = height, .width = width, .pixels = {}};
  for (int64_t i = 0; i < channels * height * width; ++i) {
    image.pixels.push_back(static_cast<uint8_t>(7 * i % 256));
  }
  return image;
}

struct PngKind {
  int colours = PNG_COLOR_TYPE_RGB, bits = 8, interlace = PNG_INTERLACE_NONE;
};

/// `rows` are the file's own: packed bits, samples of two bytes, indices.
Bytes png_of(const PngKind& kind, int64_t height, int64_t width, const std::vector<Bytes>& rows) {
  Bytes out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &out,
      [](png_structp writer, png_bytep bytes, size_t count) {
        auto& all = *static_cast<Bytes*>(png_get_io_ptr(writer));
        all.insert(all.end(), bytes, bytes + count);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height),
               kind.bits, kind.colours, kind.interlace, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  const png_color palette[] = {{1, 2, 3}, {4, 5, 6}, {200, 100, 0}, {255, 255, 255}};
  if (kind.colours == PNG_COLOR_TYPE_PALETTE) png_set_PLTE(png, info, palette, 4);
  png_write_info(png, info);
  std::vector<png_bytep> pointers;
  for (const Bytes& row : rows) pointers.push_back(const_cast<png_bytep>(row.data()));
  png_write_image(png, pointers.data());
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return out;
}

std::vector<Bytes> rows_of(const Image& image) {
  std::vector<Bytes> rows;
  const int64_t length = image.width * image.channels;
  for (int64_t y = 0; y < image.height; ++y) {
    rows.emplace_back(image.pixels.begin() + y * length, image.pixels.begin() + (y + 1) * length);
  }
  return rows;
}

Bytes png_of(const Image& image, int interlace = PNG_INTERLACE_NONE) {
  const int colours = image.channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB;
  return png_of({colours, 8, interlace}, image.height, image.width, rows_of(image));
}

Bytes jpeg_of(const Image& image, J_COLOR_SPACE colours, int quality = 100) {
  jpeg_compress_struct jpeg = {};
  jpeg_error_mgr errors = {};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &buffer, &size);
  jpeg.image_width = static_cast<JDIMENSION>(image.width);
  jpeg.image_height = static_cast<JDIMENSION>(image.height);
  jpeg.input_components = static_cast<int>(image.channels);
  jpeg.in_color_space = colours;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, quality, TRUE);
  jpeg_start_compress(&jpeg, TRUE);
  for (Bytes& row : rows_of(image)) {
    JSAMPROW pointer = row.data();
    jpeg_write_scanlines(&jpeg, &pointer, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  Bytes out(buffer, buffer + size);
  std::free(buffer);
  return out;
}

std::string refused(const Bytes& bytes) {
  return test::data_refusal([&] { decode_image(bytes, "a"); });
}

TEST(DecodeImage, PngIsWithoutLoss) {
  for (const int64_t channels : {1, 3}) {
    for (const int interlace : {PNG_INTERLACE_NONE, PNG_INTERLACE_ADAM7}) {
      const Image image = ramp(channels, 9, 13);
      const Image read = decode_image(png_of(image, interlace), "a");
      EXPECT_EQ(read.channels, channels);
      EXPECT_EQ(read.height, 9);
      EXPECT_EQ(read.width, 13);
      EXPECT_EQ(read.pixels, image.pixels);
    }
  }
}

TEST(DecodeImage, PngOfOtherDepthsBecomesBytes) {
  // Two bits of grey: 0, 1, 2, 3 are 0, 85, 170, 255.
  const Image grey = decode_image(png_of({PNG_COLOR_TYPE_GRAY, 2}, 1, 4, {{0b00011011}}), "a");
  EXPECT_EQ(grey.channels, 1);
  EXPECT_EQ(grey.pixels, (Bytes{0, 85, 170, 255}));
  // 16 bits: the nearest of 0, 257, 514, ...
  const Image wide =
      decode_image(png_of({PNG_COLOR_TYPE_GRAY, 16}, 1, 2, {{0xff, 0xff, 0x01, 0x82}}), "a");
  EXPECT_EQ(wide.pixels, (Bytes{255, 2}));
  const Image palette = decode_image(png_of({PNG_COLOR_TYPE_PALETTE, 8}, 1, 2, {{2, 0}}), "a");
  EXPECT_EQ(palette.channels, 3);
  EXPECT_EQ(palette.pixels, (Bytes{200, 100, 0, 1, 2, 3}));
}

TEST(DecodeImage, JpegOfOneColourIsThatColour) {
  // A constant block is its mean alone, so quality 100 keeps it but for the rounding of colours.
  Image image{.channels = 3, .height = 16, .width = 24, .pixels = {}};
  for (int i = 0; i < 16 * 24; ++i) {
    for (const uint8_t part : {200, 90, 30}) image.pixels.push_back(part);
  }
  const Image read = decode_image(jpeg_of(image, JCS_RGB), "a");
  ASSERT_EQ(read.pixels.size(), image.pixels.size());
  EXPECT_EQ(read.channels, 3);
  EXPECT_EQ(read.height, 16);
  EXPECT_EQ(read.width, 24);
  for (size_t i = 0; i < read.pixels.size(); ++i) {
    EXPECT_LE(std::abs(int{read.pixels[i]} - int{image.pixels[i]}), 2) << i;
  }
  const Image grey = decode_image(
      jpeg_of({.channels = 1, .height = 1, .width = 3, .pixels = {77, 77, 77}}, JCS_GRAYSCALE),
      "a");
  EXPECT_EQ(grey.channels, 1);
  EXPECT_EQ(grey.pixels, (Bytes{77, 77, 77}));
}

TEST(DecodeImage, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(refused({}), "a: neither PNG nor JPEG, must be one of them");
  EXPECT_EQ(refused({'G', 'I', 'F', '8', '9', 'a', 0, 0}),
            "a: neither PNG nor JPEG, must be one of them");
  EXPECT_EQ(refused(png_of({PNG_COLOR_TYPE_RGB_ALPHA, 8}, 1, 1, {{1, 2, 3, 4}})),
            "a: transparency, must have none");
  EXPECT_EQ(refused(jpeg_of(ramp(4, 8, 8), JCS_CMYK)),
            "a: neither grey nor RGB, must be one of them");
  EXPECT_EQ(
      refused(png_of({PNG_COLOR_TYPE_GRAY, 1}, 4097, 4096, std::vector<Bytes>(4097, Bytes(512)))),
      "a: 4097 x 4096 pixels, must be at least one and at most 16777216");
}

TEST(DecodeImage, RefusesEveryTruncation) {
  const Bytes png = png_of(ramp(3, 8, 8)), jpeg = jpeg_of(ramp(3, 8, 8), JCS_RGB);
  for (size_t length = 8; length < png.size(); ++length) {
    const std::string refusal = refused({png.begin(), png.begin() + static_cast<long>(length)});
    ASSERT_THAT(refusal, AllOf(HasSubstr("a: damaged ("), HasSubstr("must be a whole PNG")))
        << length;
  }
  // The last two bytes are the mark of the end.
  for (size_t length = 3; length + 2 <= jpeg.size(); ++length) {
    const std::string refusal = refused({jpeg.begin(), jpeg.begin() + static_cast<long>(length)});
    ASSERT_THAT(refusal, AllOf(HasSubstr("a: damaged ("), HasSubstr("must be a whole JPEG")))
        << length;
  }
}

TEST(DecodeImage, HostileBytesAreReadOrRefused) {
  const std::vector<Bytes> sound = {png_of(ramp(3, 12, 10)), png_of(ramp(1, 6, 6), 1),
                                    jpeg_of(ramp(3, 12, 10), JCS_RGB, 60),
                                    jpeg_of(ramp(1, 8, 8), JCS_GRAYSCALE, 60)};
  std::mt19937 random(1);
  int64_t read = 0, refusals = 0;
  for (int i = 0; i < 4000; ++i) {
    Bytes bytes = sound[static_cast<size_t>(i) % sound.size()];
    for (uint32_t changes = random() % 4 + 1; changes > 0; --changes) {
      bytes[8 + random() % (bytes.size() - 8)] = static_cast<uint8_t>(random());
    }
    Image image;
    const std::string refusal = test::data_refusal([&] { image = decode_image(bytes, "a"); });
    ASSERT_THAT(refusal, Not(HasSubstr("\n")));
    (refusal.empty() ? read : refusals) += 1;
    if (refusal.empty()) {
      ASSERT_EQ(static_cast<int64_t>(image.pixels.size()),
                image.channels * image.height * image.width);
    }
  }
  EXPECT_GT(read, 0);
  EXPECT_GT(refusals, 0);
}

TEST(ReadImage, ReadsAFile) {
  test::TemporaryFolder folder;
  const Bytes png = png_of(ramp(3, 5, 4));
  test::write_file(folder / "a.png", {png.begin(), png.end()});
  EXPECT_EQ(read_image(folder / "a.png").pixels, ramp(3, 5, 4).pixels);
  EXPECT_EQ(test::data_refusal([&] { read_image(folder / "b.png"); }),
            (folder / "b.png").string() + ": not a file, must be one");
}

}  // namespace
}  // namespace gradist
