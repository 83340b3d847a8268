#include "data/augmentation.h"

#include "data/keyed_random.h"

#include <ATen/ATen.h>
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>

namespace gradist {
namespace {

constexpr int64_t kPadding = 4;
constexpr int64_t kImageDimensions = 3;  // [C, H, W]

struct NamedAugmentation {
  const char* name;
  Augmentation augmentation;
};

constexpr NamedAugmentation kAugmentations[] = {
    {"none", Augmentation::kNone},
    {"flip", Augmentation::kFlip},
    {"crop-flip", Augmentation::kCropFlip},
};

/// -4 .. 4, each alike: the high half of 32 random bits times nine.
int64_t shift_from(uint32_t bits) {
  constexpr uint64_t kPlaces = 2 * kPadding + 1;
  return static_cast<int64_t>((bits * kPlaces) >> 32) - kPadding;
}

/// One line of pixels: `width` of them from column `right` on, zeros outside, backwards if flipped.
template <class Number>
void copy_line(const Number* from, const ImageTransform& transform, int64_t width, Number* to) {
  const int64_t first = std::clamp<int64_t>(-transform.right, 0, width);
  const int64_t last = std::clamp<int64_t>(width - transform.right, 0, width);
  std::fill(to, to + first, Number{0});
  std::copy(from + first + transform.right, from + last + transform.right, to + first);
  std::fill(to + last, to + width, Number{0});
  if (transform.flipped) {
    std::reverse(to, to + width);
  }
}

/// The planes of one image.
template <class Number>
void transform_image(const Number* from, const ImageTransform& transform, at::IntArrayRef shape,
                     Number* to) {
  const int64_t channels = shape[0], height = shape[1], width = shape[2];
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t row = 0; row < height; ++row, to += width) {
      const int64_t source = row + transform.down;
      if (source < 0 || source >= height) {
        std::fill(to, to + width, Number{0});
      } else {
        copy_line(from + (c * height + source) * width, transform, width, to);
      }
    }
  }
}

at::Tensor transformed_on_cpu(const at::Tensor& images,
                              const std::vector<ImageTransform>& transforms) {
  const auto shape = images.sizes().slice(1);
  const int64_t numbers = images.numel() / std::max<int64_t>(images.size(0), 1);
  at::Tensor result = at::empty(images.sizes(), images.options());
  AT_DISPATCH_FLOATING_TYPES(images.scalar_type(), "augmented", [&] {
    const auto* from = images.const_data_ptr<scalar_t>();
    auto* to = result.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, images.size(0), /*grain_size=*/16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        transform_image(from + i * numbers, transforms[static_cast<size_t>(i)], shape,
                        to + i * numbers);
      }
    });
  });
  return result;
}

/// By torch's operations, on any device: each pixel looked up in the padded images.
at::Tensor transformed_by_lookup(const at::Tensor& images,
                                 const std::vector<ImageTransform>& transforms) {
  const int64_t height = images.size(2), width = images.size(3);
  std::vector<int64_t> down, right, flipped;
  for (const auto& transform : transforms) {
    down.push_back(transform.down);
    right.push_back(transform.right);
    flipped.push_back(transform.flipped ? 1 : 0);
  }
  const auto options = images.options().dtype(at::kLong);
  const auto column_of_examples = [&](const std::vector<int64_t>& values) {
    return at::tensor(values, at::kLong).to(images.device()).view({-1, 1});
  };
  const auto columns = at::arange(width, options).view({1, -1});
  const auto mirrored = at::where(column_of_examples(flipped) == 1, width - 1 - columns, columns);
  const auto x = mirrored + column_of_examples(right) + kPadding;  // [B, W]
  const auto y = at::arange(height, options).view({1, -1}) + column_of_examples(down) + kPadding;
  const auto places = (y.unsqueeze(2) * (width + 2 * kPadding) + x.unsqueeze(1)).flatten(1);
  const auto padded = at::constant_pad_nd(images, {kPadding, kPadding, kPadding, kPadding});
  const auto channels = images.size(1);
  return padded.flatten(2)
      .gather(2, places.unsqueeze(1).expand({-1, channels, -1}))
      .view(images.sizes());
}

}  // namespace

const std::vector<std::string>& augmentation_names() {
  static const auto names = [] {
    std::vector<std::string> list;
    for (const auto& row : kAugmentations) list.emplace_back(row.name);
    return list;
  }();
  return names;
}

Augmentation augmentation_by_name(const std::string& name) {
  for (const auto& row : kAugmentations) {
    if (name == row.name) return row.augmentation;
  }
  TORCH_CHECK_VALUE(false, "augment = ", name, ", must be one of ",
                    c10::Join(", ", augmentation_names()));
}

void check_augmentation(Augmentation augmentation, at::IntArrayRef example_shape, bool sparse) {
  TORCH_CHECK_VALUE(augmentation == Augmentation::kNone ||
                        (!sparse && static_cast<int64_t>(example_shape.size()) == kImageDimensions),
                    "augment = ", kAugmentations[static_cast<size_t>(augmentation)].name,
                    ", must be none for examples of shape ", example_shape,
                    ": images [channels, height, width] are needed");
}

ImageTransform transform_of(Augmentation augmentation, uint64_t seed, uint64_t key,
                            int64_t example) {
  if (augmentation == Augmentation::kNone) {
    return {};
  }
  const uint64_t bits = example_bits(seed, key, example);
  const uint64_t shifts = splitmix64(bits);
  const bool crops = augmentation == Augmentation::kCropFlip;
  return {.down = crops ? shift_from(static_cast<uint32_t>(shifts >> 32)) : 0,
          .right = crops ? shift_from(static_cast<uint32_t>(shifts)) : 0,
          .flipped = (bits >> 63) != 0};
}

at::Tensor augmented(const at::Tensor& images, const at::Tensor& examples,
                     Augmentation augmentation, uint64_t seed, uint64_t key) {
  if (augmentation == Augmentation::kNone) {
    return images;
  }
  const at::Tensor on_cpu = examples.to(at::kCPU, at::kLong).contiguous();
  const auto* example = on_cpu.const_data_ptr<int64_t>();
  std::vector<ImageTransform> transforms;
  for (int64_t i = 0; i < on_cpu.numel(); ++i) {
    transforms.push_back(transform_of(augmentation, seed, key, example[i]));
  }
  return images.is_cpu() && images.is_contiguous() ? transformed_on_cpu(images, transforms)
                                                   : transformed_by_lookup(images, transforms);
}

}  // namespace gradist
