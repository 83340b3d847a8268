#include "data/mnist.h"

#include "data/data_folder.h"
#include "data/idx.h"
#include "data/stored_images.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>

namespace gradist {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kClasses = 10;
constexpr const char* kFourFiles =
    "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
    "t10k-labels-idx1-ubyte (plain or .gz)";

/// The file of `part` ("train-images") and `kind` ("idx3-ubyte") under any of its spellings.
fs::path find_file(const fs::path& folder, const std::string& part, const std::string& kind) {
  for (const char* separator : {"-", "."}) {
    for (const char* ending : {"", ".gz"}) {
      fs::path file = folder / (part + separator + kind + ending);
      std::error_code error;
      if (fs::exists(file, error)) return file;
    }
  }
  TORCH_CHECK_VALUE(false, "data-dir = ", folder.string(), ", has no ", part, "-", kind,
                    ", must hold ", kFourFiles);
}

std::shared_ptr<const StoredImages> read_images(const fs::path& file) {
  auto array = std::make_shared<IdxArray>(read_idx(file, IdxKind::kImages));
  const auto& sizes = array->dimensions;
  return images_in_memory(at::from_blob(
      array->values.data(), {sizes[0], 1, sizes[1], sizes[2]}, [array](void*) {}, at::kByte));
}

std::shared_ptr<const StoredImages> leave_images(const fs::path& file) {
  ByteFile bytes(file);
  const auto sizes = parse_idx_header(bytes.reader(), IdxKind::kImages, file.string());
  return images_in_files({{file, idx_header_bytes(sizes.size()), 0, sizes[0]}},
                         {1, sizes[1], sizes[2]});
}

at::Tensor read_labels(const fs::path& file) {
  IdxArray array = read_idx(file, IdxKind::kLabels);
  auto wrong = std::ranges::find_if(array.values, [](uint8_t label) { return label >= kClasses; });
  TORCH_CHECK_VALUE(wrong == array.values.end(), file.string(), ": label ",
                    static_cast<int>(*wrong), " at position ", wrong - array.values.begin(),
                    " (from 0), must be 0..", kClasses - 1);
  return at::from_blob(array.values.data(), array.dimensions, at::kByte).to(at::kLong);
}

Dataset read_part(const DataOptions& options, const fs::path& images, const fs::path& labels) {
  Dataset data;
  data.stored = StoredInputs{.source = options.stream ? leave_images(images) : read_images(images)};
  data.targets = read_labels(labels);
  data.classes = kClasses;
  data.name = options.data;
  TORCH_CHECK_VALUE(data.targets.size(0) == data.size(), labels.string(), ": ",
                    data.targets.size(0), " labels, must be as many as the ", data.size(),
                    " images of ", images.string());
  return data;
}

}  // namespace

DataSplit store_mnist(const DataOptions& options) {
  const fs::path folder = data_folder(options.data, options.data_dir, kFourFiles);
  // All four are found before the first is read: a missing one is told at once.
  fs::path train_images = find_file(folder, "train-images", "idx3-ubyte");
  fs::path train_labels = find_file(folder, "train-labels", "idx1-ubyte");
  fs::path test_images = find_file(folder, "t10k-images", "idx3-ubyte");
  fs::path test_labels = find_file(folder, "t10k-labels", "idx1-ubyte");
  DataSplit split = checked([&] {
    return DataSplit{.train = read_part(options, train_images, train_labels),
                     .test = read_part(options, test_images, test_labels)};
  });
  const at::IntArrayRef train = split.train.example_shape(), test = split.test.example_shape();
  TORCH_CHECK_VALUE(train == test, test_images.string(), ": images of ", test[1], " x ", test[2],
                    " pixels, must be ", train[1], " x ", train[2], " as those of ",
                    train_images.string());
  return split;
}

DataSplit load_mnist(const std::string& name, const std::string& data_dir) {
  return in_memory(store_mnist({.data = name, .data_dir = data_dir}));
}

}  // namespace gradist
