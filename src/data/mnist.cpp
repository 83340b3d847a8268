#include "data/mnist.h"

#include "data/data_folder.h"
#include "data/idx.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

namespace gradist {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kClasses = 10;
constexpr float kBrightest = 255;
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

at::Tensor read_images(const fs::path& file) {
  IdxArray array = checked([&] { return read_idx(file, IdxKind::kImages); });
  std::vector<int64_t> shape = {array.dimensions[0], 1, array.dimensions[1], array.dimensions[2]};
  return at::from_blob(array.values.data(), shape, at::kByte).to(at::kFloat).div_(kBrightest);
}

at::Tensor read_labels(const fs::path& file) {
  IdxArray array = checked([&] { return read_idx(file, IdxKind::kLabels); });
  auto wrong = std::ranges::find_if(array.values, [](uint8_t label) { return label >= kClasses; });
  TORCH_CHECK_VALUE(wrong == array.values.end(), file.string(), ": label ",
                    static_cast<int>(*wrong), " at position ", wrong - array.values.begin(),
                    " (from 0), must be 0..", kClasses - 1);
  return at::from_blob(array.values.data(), array.dimensions, at::kByte).to(at::kLong);
}

Dataset read_part(const std::string& name, const fs::path& images, const fs::path& labels) {
  Dataset data{.inputs = read_images(images),
               .targets = read_labels(labels),
               .classes = kClasses,
               .name = name};
  TORCH_CHECK_VALUE(data.targets.size(0) == data.size(), labels.string(), ": ",
                    data.targets.size(0), " labels, must be as many as the ", data.size(),
                    " images of ", images.string());
  return data;
}

}  // namespace

DataSplit load_mnist(const std::string& name, const std::string& data_dir) {
  const fs::path folder = data_folder(name, data_dir, kFourFiles);
  // All four are found before the first is read: a missing one is told at once.
  fs::path train_images = find_file(folder, "train-images", "idx3-ubyte");
  fs::path train_labels = find_file(folder, "train-labels", "idx1-ubyte");
  fs::path test_images = find_file(folder, "t10k-images", "idx3-ubyte");
  fs::path test_labels = find_file(folder, "t10k-labels", "idx1-ubyte");
  DataSplit split{.train = read_part(name, train_images, train_labels),
                  .test = read_part(name, test_images, test_labels)};
  TORCH_CHECK_VALUE(split.train.inputs.sizes().slice(1) == split.test.inputs.sizes().slice(1),
                    test_images.string(), ": images of ", split.test.inputs.size(2), " x ",
                    split.test.inputs.size(3), " pixels, must be ", split.train.inputs.size(2),
                    " x ", split.train.inputs.size(3), " as those of ", train_images.string());
  return split;
}

}  // namespace gradist
