#pragma once

#include <cstdint>

namespace gradist {

/// The planes of one example: an image, or what a layer makes of it.
struct ImageShape {
  int64_t channels = 0, height = 0, width = 0;

  int64_t positions() const { return height * width; }
  int64_t numbers() const { return channels * positions(); }
};

/// The square window of a convolution or of pooling, the same in both directions. Zero padding.
struct Window {
  int64_t kernel = 1;
  int64_t stride = 1;
  int64_t padding = 0;

  /// How many places it has along `size` pixels; below 1 where it does not fit.
  int64_t places(int64_t size) const {
    const int64_t room = size + 2 * padding - kernel;
    return room < 0 ? 0 : room / stride + 1;
  }

  /// The planes that it makes, as many as it is given.
  ImageShape over(const ImageShape& input) const {
    return {input.channels, places(input.height), places(input.width)};
  }
};

}  // namespace gradist
