#include "data/image_file.h"

#include "fuzz_parser.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return gradist::fuzz::run([&] {
    const gradist::Image image = gradist::decode_image({data, size}, "input");
    const int64_t pixels = image.channels * image.height * image.width;
    if (pixels < 1 || pixels != static_cast<int64_t>(image.pixels.size())) std::abort();
  });
}
