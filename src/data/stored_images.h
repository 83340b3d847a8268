#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

namespace gradist {

/// N images of one size, a byte a number, that stay where they are until asked for.
class StoredImages {
 public:
  virtual ~StoredImages() = default;

  /// [N, channels, height, width]
  const std::vector<int64_t>& sizes() const { return sizes_; }

  /// The bytes of the images `rows` (int64 [B], on the CPU): [B, channels, height, width].
  virtual at::Tensor read(const at::Tensor& rows) const = 0;

  /// Those of the images from `begin` on; may be a view.
  virtual at::Tensor read_range(int64_t begin, int64_t count) const;

 protected:
  explicit StoredImages(std::vector<int64_t> sizes) : sizes_(std::move(sizes)) {}

 private:
  std::vector<int64_t> sizes_;
};

/// Images that are in memory already: bytes [N, channels, height, width].
std::shared_ptr<const StoredImages> images_in_memory(const at::Tensor& bytes);

/// A file of nothing but a header and records, each of some bytes and then an image.
struct RecordFile {
  std::filesystem::path file;
  int64_t header = 0;   ///< bytes before the first record
  int64_t before = 0;   ///< bytes of a record before its image
  int64_t records = 0;  ///< how many there must be
};

/// Images [channels, height, width] in such files, one file after the other; they must be plain,
/// not compressed, and as long as their records say.
std::shared_ptr<const StoredImages> images_in_files(const std::vector<RecordFile>& files,
                                                    const std::vector<int64_t>& image);

/// Numbers for bytes: the byte b of channel c counts as values[c, b] (float32 [channels, 256]).
/// Brightness b / 255; with `standardize` less the mean and over the population standard deviation
/// of the channel in these images. Both come from how often each byte occurs, so they do not
/// depend on the order in which images are read; a deviation of zero counts as one.
at::Tensor byte_values(const StoredImages& images, bool standardize);

/// What the bytes [B, channels, height, width] count as.
at::Tensor look_up(const at::Tensor& bytes, const at::Tensor& values);

/// Examples that stay where they are: example i is image rows[i], as numbers.
struct StoredInputs {
  std::shared_ptr<const StoredImages> images;
  at::Tensor values;             ///< see byte_values
  at::Tensor rows = {};          ///< int64 [N]; undefined: every image once, in order
  at::TensorOptions place = {};  ///< device and floating-point type of what is read

  int64_t size() const { return rows.defined() ? rows.numel() : images->sizes()[0]; }

  /// The inputs of `examples` (int64 [B], on any device).
  at::Tensor read(const at::Tensor& examples) const;

  /// All of them.
  at::Tensor read_all() const;
};

}  // namespace gradist
