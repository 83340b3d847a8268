#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gradist {

/// Random transforms of images, for training: [Defazio19] section 2.
enum class Augmentation {
  kNone,
  kFlip,     ///< left and right swapped, with probability 1/2
  kCropFlip  ///< four zeros on every side, a random crop of the former size, then a flip
};

/// Names that the option `augment` takes: none, flip, crop-flip.
const std::vector<std::string>& augmentation_names();
Augmentation augmentation_by_name(const std::string& name);

/// Refuses data that are no dense images [channels, height, width].
void check_augmentation(Augmentation augmentation, at::IntArrayRef example_shape, bool sparse);

/// What happens to one image x: pixel (row, column) of the result is
///
///   x[row + down, c + right],  c = column, or width - 1 - column where flipped,
///
/// and zero outside of x, the mean colour of standardised data.
struct ImageTransform {
  int64_t down = 0, right = 0;  ///< -4 .. 4, uniform
  bool flipped = false;
};

/// A pure function of its arguments: same key, same transform of the example. So whoever keeps the
/// key locks the transforms.
ImageTransform transform_of(Augmentation augmentation, uint64_t seed, uint64_t key,
                            int64_t example);

/// The images [B, C, H, W] of the examples [B] (int64), each transformed. On a CPU in one pass over
/// memory.
at::Tensor augmented(const at::Tensor& images, const at::Tensor& examples,
                     Augmentation augmentation, uint64_t seed, uint64_t key);

}  // namespace gradist
