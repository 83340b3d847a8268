#pragma once

#include "data/stored_inputs.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

namespace gradist {

/// N images of one size, [N, channels, height, width], a byte b a number, its brightness b / 255.
class StoredImages : public InputSource {
 public:
  /// The bytes of the images `rows` (int64 [B], on the CPU): [B, channels, height, width].
  virtual at::Tensor bytes(const at::Tensor& rows) const = 0;

  /// Those of the images from `begin` on; may be a view.
  virtual at::Tensor bytes_range(int64_t begin, int64_t count) const;

  at::Tensor read(const at::Tensor& rows, const InputScale& scale) const override;
  at::Tensor read_range(int64_t begin, int64_t count, const InputScale& scale) const override;

  /// One mean and deviation a channel, from how often each byte occurs: they do not depend on the
  /// order in which images are read.
  InputScale scale(bool by_feature) const override;

 protected:
  using InputSource::InputSource;
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

}  // namespace gradist
