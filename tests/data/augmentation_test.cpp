#include "data/augmentation.h"

#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

#include <cmath>
#include <map>

namespace gradist {
namespace {

using test::normal;
using test::refusal;
using test::same_bits;

constexpr uint64_t kSeed = 11, kKey = 3;

const at::Tensor kRows = at::tensor({6, 0, 3, 3, 12}, at::kLong);

/// Pixel by pixel, as the comment of ImageTransform has it.
at::Tensor by_pixels(const at::Tensor& images, const at::Tensor& rows, Augmentation augmentation,
                     uint64_t key = kKey) {
  const int64_t height = images.size(2), width = images.size(3);
  at::Tensor result = at::zeros_like(images.index_select(0, rows));
  for (int64_t b = 0; b < rows.numel(); ++b) {
    const auto example = rows[b].item<int64_t>();
    const ImageTransform t = transform_of(augmentation, kSeed, key, example);
    for (int64_t row = 0; row < height; ++row) {
      for (int64_t column = 0; column < width; ++column) {
        const int64_t c = t.flipped ? width - 1 - column : column;
        const int64_t y = row + t.down, x = c + t.right;
        if (y < 0 || y >= height || x < 0 || x >= width) continue;
        for (int64_t plane = 0; plane < images.size(1); ++plane)
          result[b][plane][row][column] = images[example][plane][y][x];
      }
    }
  }
  return result;
}

TEST(Augmentation, IsWhatALoopOverPixelsMakes) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    for (const auto& sizes : {std::vector<int64_t>{13, 3, 8, 10}, {13, 1, 3, 2}, {13, 2, 5, 5}}) {
      const at::Tensor images = normal(sizes, 1, type);
      for (const auto augmentation : {Augmentation::kFlip, Augmentation::kCropFlip}) {
        const at::Tensor expected = by_pixels(images, kRows, augmentation);
        const at::Tensor found =
            augmented(images.index_select(0, kRows), kRows, augmentation, kSeed, kKey);
        EXPECT_TRUE(same_bits(found, expected));
        EXPECT_TRUE(found.is_contiguous());
        // Not contiguous: by torch's operations, as on other devices.
        const auto channels_last = images.contiguous(at::MemoryFormat::ChannelsLast);
        EXPECT_TRUE(same_bits(augmented(channels_last.index_select(0, kRows).contiguous(
                                            at::MemoryFormat::ChannelsLast),
                                        kRows, augmentation, kSeed, kKey)
                                  .contiguous(),
                              expected));
      }
    }
  }
}

TEST(Augmentation, BelongsToExampleAndKeyWhoeverElseIsInTheBatch) {
  const at::Tensor images = normal({13, 3, 8, 8}, 1);
  const auto rows_of = [&](const at::Tensor& rows, uint64_t seed, uint64_t key) {
    return augmented(images.index_select(0, rows), rows, Augmentation::kCropFlip, seed, key);
  };
  const at::Tensor together = rows_of(kRows, kSeed, kKey);
  for (int64_t b = 0; b < kRows.numel(); ++b) {
    EXPECT_TRUE(same_bits(rows_of(kRows.narrow(0, b, 1), kSeed, kKey), together.narrow(0, b, 1)));
  }
  EXPECT_FALSE(same_bits(rows_of(kRows, kSeed, kKey + 1), together));
  EXPECT_FALSE(same_bits(rows_of(kRows, kSeed + 1, kKey), together));
}

TEST(Augmentation, NoneIsTheImagesThemselves) {
  const at::Tensor images = normal({13, 3, 8, 8}, 1);
  EXPECT_TRUE(
      same_bits(augmented(images, at::arange(13), Augmentation::kNone, kSeed, kKey), images));
}

/// Counts of one value among n draws of probability p lie within five deviations of n p.
void expect_share(int64_t count, int64_t n, double p) {
  const auto size = static_cast<double>(n);
  EXPECT_LT(std::abs(static_cast<double>(count) - size * p), 5 * std::sqrt(size * p * (1 - p)));
}

TEST(Augmentation, DrawsShiftsAndFlipsUniformly) {
  constexpr int64_t kExamples = 90'000;
  std::map<int64_t, int64_t> down, right;
  std::map<std::pair<int64_t, bool>, int64_t> with_flip;
  int64_t flips = 0;
  for (int64_t i = 0; i < kExamples; ++i) {
    const ImageTransform t = transform_of(Augmentation::kCropFlip, kSeed, kKey, i);
    ++down[t.down];
    ++right[t.right];
    ++with_flip[{t.down, t.flipped}];
    flips += t.flipped ? 1 : 0;
    const ImageTransform flip = transform_of(Augmentation::kFlip, kSeed, kKey, i);
    EXPECT_TRUE(flip.down == 0 && flip.right == 0 && flip.flipped == t.flipped);
  }
  expect_share(flips, kExamples, 0.5);
  for (int64_t shift = -4; shift <= 4; ++shift) {
    expect_share(down[shift], kExamples, 1. / 9);
    expect_share(right[shift], kExamples, 1. / 9);
    expect_share(with_flip[{shift, true}], kExamples, 1. / 18);
  }
  EXPECT_EQ(down.size(), 9U);
  EXPECT_EQ(right.size(), 9U);
}

TEST(Augmentation, NeedsImages) {
  EXPECT_EQ(refusal([] { check_augmentation(Augmentation::kCropFlip, {64}, false); }),
            "augment = crop-flip, must be none for examples of shape [64]: images [channels, "
            "height, width] are needed");
  EXPECT_EQ(refusal([] { check_augmentation(Augmentation::kNone, {64}, true); }), "");
  EXPECT_EQ(refusal([] { augmentation_by_name("crop"); }),
            "augment = crop, must be one of none, flip, crop-flip");
}

}  // namespace
}  // namespace gradist
