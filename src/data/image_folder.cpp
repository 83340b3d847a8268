#include "data/image_folder.h"

#include "data/data_folder.h"
#include "data/image_file.h"
#include "data/stored_images.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace gradist {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kColours = 3;
constexpr const char* kLayout =
    "train/<class>/ and test/<class>/ (or val/<class>/) with PNG or JPEG files";

struct Part {
  std::vector<fs::path> files;
  std::vector<int64_t> labels;
};

struct Folder {
  std::vector<std::string> classes;
  Part train, test;
};

bool is_hidden(const fs::path& path) { return path.filename().string().starts_with('.'); }

std::vector<std::string> folders_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::path& path : files_of(folder)) {
    if (is_hidden(path)) continue;
    if (!fs::is_directory(path)) refuse_data(path.string(), "not a folder, must be one of a class");
    names.push_back(path.filename().string());
  }
  return names;
}

Part part_of(const fs::path& folder, const std::vector<std::string>& classes) {
  Part part;
  for (const std::string& name : folders_in(folder)) {
    const auto known = std::ranges::find(classes, name);
    if (known == classes.end()) {
      refuse_data((folder / name).string(), "no class of the training set, must be one");
    }
    const size_t before = part.files.size();
    for (const fs::path& file : files_of(folder / name)) {
      if (is_hidden(file)) continue;
      part.files.push_back(file);
      part.labels.push_back(known - classes.begin());
    }
    if (part.files.size() == before) {
      refuse_data((folder / name).string(), "no image, must hold at least one");
    }
  }
  if (part.files.empty()) refuse_data(folder.string(), "no folder of a class, must hold some");
  return part;
}

Folder find_images(const fs::path& folder) {
  const fs::path train = folder / "train";
  const fs::path test = folder / (fs::is_directory(folder / "test") ? "test" : "val");
  for (const fs::path& part : {train, test}) {
    if (!fs::is_directory(part)) {
      refuse_data(folder.string(),
                  "no folder " + part.filename().string() + ", must hold " + kLayout);
    }
  }
  Folder found;
  found.classes = folders_in(train);
  found.train = part_of(train, found.classes);
  found.test = part_of(test, found.classes);
  return found;
}

/// The size that all images must have, and whose it is.
struct Model {
  Image image;
  std::string name;
};

Image read_like(const fs::path& file, const Model& model) {
  Image image = read_image(file);
  if (image.height != model.image.height || image.width != model.image.width) {
    refuse_data(file.string(), std::to_string(image.height) + " x " + std::to_string(image.width) +
                                   " pixels, must be " + std::to_string(model.image.height) +
                                   " x " + std::to_string(model.image.width) + " as " + model.name);
  }
  return image;
}

/// From [height, width, channels] to [channels, height, width]; a grey image has equal channels.
void write_planes(const Image& image, int64_t channels, uint8_t* into) {
  const int64_t length = image.height * image.width;
  for (int64_t c = 0; c < channels; ++c) {
    const uint8_t* from = image.pixels.data() + (image.channels == 1 ? 0 : c);
    for (int64_t i = 0; i < length; ++i) into[c * length + i] = from[i * image.channels];
  }
}

/// Reads each file and hands it on; errors are DataErrors. True if all are grey.
template <class Take>
bool read_each(const std::vector<fs::path>& files, const Model& model, const Take& take) {
  bool grey = true;
  for (size_t i = 0; i < files.size(); ++i) {
    const Image image = read_like(files[i], model);
    grey = grey && image.channels == 1;
    take(static_cast<int64_t>(i), image);
  }
  return grey;
}

class ImagesInFolder final : public StoredImages {
 public:
  ImagesInFolder(std::vector<fs::path> files, const Model& model, int64_t channels)
      : StoredImages(
            {static_cast<int64_t>(files.size()), channels, model.image.height, model.image.width}),
        files_(std::move(files)),
        model_(model) {}

  at::Tensor bytes(const at::Tensor& rows) const override {
    std::vector<int64_t> wanted = sizes();
    wanted[0] = rows.numel();
    const at::Tensor bytes = at::empty(wanted, at::kByte), numbers = rows.contiguous();
    const auto* row = numbers.const_data_ptr<int64_t>();
    auto* into = bytes.mutable_data_ptr<uint8_t>();
    const int64_t channels = sizes()[1], length = channels * sizes()[2] * sizes()[3];
    at::parallel_for(0, rows.numel(), 1, [&](int64_t begin, int64_t end) {
      checked([&] {
        for (int64_t i = begin; i < end; ++i) {
          write_planes(read_like(files_[static_cast<size_t>(row[i])], model_), channels,
                       into + i * length);
        }
      });
    });
    return bytes;
  }

 private:
  std::vector<fs::path> files_;
  Model model_;
};

/// Bytes of all, as three channels, and whether one would have been enough.
std::pair<at::Tensor, bool> read_all(const Part& part, const Model& model) {
  const auto size = static_cast<int64_t>(part.files.size());
  const at::Tensor bytes =
      at::empty({size, kColours, model.image.height, model.image.width}, at::kByte);
  auto* into = bytes.mutable_data_ptr<uint8_t>();
  const int64_t length = kColours * model.image.height * model.image.width;
  const bool grey = read_each(part.files, model, [&](int64_t i, const Image& image) {
    write_planes(image, kColours, into + i * length);
  });
  return {bytes, grey};
}

using StoredPair =
    std::pair<std::shared_ptr<const StoredImages>, std::shared_ptr<const StoredImages>>;

StoredPair in_memory(const Folder& folder, const Model& model) {
  const auto [train, train_grey] = read_all(folder.train, model);
  const auto [test, test_grey] = read_all(folder.test, model);
  const int64_t channels = train_grey && test_grey ? 1 : kColours;
  return {images_in_memory(train.narrow(1, 0, channels)),
          images_in_memory(test.narrow(1, 0, channels))};
}

StoredPair in_folder(const Folder& folder, const Model& model) {
  const auto nothing = [](int64_t, const Image&) {};
  const bool train_grey = read_each(folder.train.files, model, nothing);
  const bool test_grey = read_each(folder.test.files, model, nothing);
  const int64_t channels = train_grey && test_grey ? 1 : kColours;
  return {std::make_shared<ImagesInFolder>(folder.train.files, model, channels),
          std::make_shared<ImagesInFolder>(folder.test.files, model, channels)};
}

Model model_of(const Folder& folder) {
  const fs::path& first = folder.train.files.front();
  return {read_image(first), first.string()};
}

Dataset dataset_of(const std::string& name, const Folder& folder, const Part& part,
                   std::shared_ptr<const StoredImages> images) {
  Dataset data;
  data.stored = StoredInputs{.source = std::move(images)};
  data.targets = at::tensor(part.labels, at::kLong);
  data.classes = static_cast<int64_t>(folder.classes.size());
  data.name = name;
  return data;
}

}  // namespace

DataSplit store_image_folder(const DataOptions& options) {
  const fs::path path = data_folder(options.data, options.data_dir, kLayout);
  return checked([&] {
    const Folder folder = find_images(path);
    const Model model = model_of(folder);
    const auto [train, test] = options.stream ? in_folder(folder, model) : in_memory(folder, model);
    return DataSplit{.train = dataset_of(options.data, folder, folder.train, train),
                     .test = dataset_of(options.data, folder, folder.test, test)};
  });
}

std::string describe_image_folder(const fs::path& path) {
  if (!fs::is_directory(path / "train")) return "";
  const Folder folder = find_images(path);
  const Model model = model_of(folder);
  const StoredPair images = in_folder(folder, model);
  const std::vector<int64_t>& sizes = images.first->sizes();
  return "image folder, " + std::to_string(sizes[0]) + " training and " +
         std::to_string(images.second->sizes()[0]) + " test images of " + std::to_string(sizes[1]) +
         " x " + std::to_string(sizes[2]) + " x " + std::to_string(sizes[3]) + ", " +
         std::to_string(folder.classes.size()) + " classes";
}

}  // namespace gradist
