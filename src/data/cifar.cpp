#include "data/cifar.h"

#include "data/cifar_records.h"
#include "data/data_folder.h"
#include "data/stored_images.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

namespace gradist {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFiles =
    "the binary version's files (*.bin, plain or .gz), those of the test set with names that begin "
    "with test";

struct CifarFiles {
  std::vector<fs::path> train, test;
};

bool is_batch(const fs::path& file) {
  const std::string name = file.filename().string();
  return name.ends_with(".bin") ||
         (name.ends_with(".bin.gz") && !fs::exists(file.parent_path() / file.stem()));
}

CifarFiles find_files(const fs::path& folder) {
  CifarFiles files;
  for (const fs::path& file : files_of(folder)) {
    if (!is_batch(file)) continue;
    const bool test = file.filename().string().starts_with("test");
    (test ? files.test : files.train).push_back(file);
  }
  for (const auto& [part, found] : {std::pair("training", &files.train), {"test", &files.test}}) {
    TORCH_CHECK_VALUE(!found->empty(), "data-dir = ", folder.string(), ", has no ", part,
                      " file, must hold ", kFiles);
  }
  return files;
}

const CifarLabels& labels_of(const std::string& name) {
  return name == "cifar10" ? cifar10_labels() : cifar100_labels();
}

Dataset dataset_of(const std::string& name, std::vector<uint8_t>& labels,
                   std::shared_ptr<const StoredImages> images) {
  Dataset data;
  data.stored = StoredInputs{.source = std::move(images)};
  data.targets =
      at::from_blob(labels.data(), {static_cast<int64_t>(labels.size())}, at::kByte).to(at::kLong);
  data.classes = labels_of(name).back();
  data.name = name;
  return data;
}

Dataset read_part(const std::string& name, const std::vector<fs::path>& files) {
  auto records = std::make_shared<CifarRecords>();
  for (const fs::path& file : files) read_cifar(file, labels_of(name), *records);
  const at::Tensor bytes = at::from_blob(
      records->pixels.data(),
      {records->size(), CifarRecords::kChannels, CifarRecords::kSide, CifarRecords::kSide},
      [records](void*) {}, at::kByte);
  return dataset_of(name, records->labels, images_in_memory(bytes));
}

/// Labels are read now, pixels when they are asked for.
Dataset leave_part(const std::string& name, const std::vector<fs::path>& files) {
  const CifarLabels& kinds = labels_of(name);
  std::vector<uint8_t> labels;
  std::vector<RecordFile> records;
  for (const fs::path& file : files) {
    ByteFile bytes(file);
    const int64_t count =
        visit_cifar(bytes.reader(), kinds, file.string(),
                    [&](uint8_t label, const uint8_t*) { labels.push_back(label); });
    records.push_back({file, 0, static_cast<int64_t>(kinds.size()), count});
  }
  return dataset_of(name, labels,
                    images_in_files(records, {CifarRecords::kChannels, CifarRecords::kSide,
                                              CifarRecords::kSide}));
}

}  // namespace

DataSplit store_cifar(const DataOptions& options) {
  const CifarFiles files = find_files(data_folder(options.data, options.data_dir, kFiles));
  const auto part = options.stream ? leave_part : read_part;
  return checked([&] {
    return DataSplit{.train = part(options.data, files.train),
                     .test = part(options.data, files.test)};
  });
}

DataSplit load_cifar(const std::string& name, const std::string& data_dir) {
  return in_memory(store_cifar({.data = name, .data_dir = data_dir}));
}

}  // namespace gradist
