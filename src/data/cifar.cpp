#include "data/cifar.h"

#include "data/cifar_records.h"
#include "data/data_folder.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <filesystem>
#include <vector>

namespace gradist {
namespace {

namespace fs = std::filesystem;

constexpr float kBrightest = 255;
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

Dataset read_part(const std::string& name, const std::vector<fs::path>& files) {
  const CifarLabels& labels = name == "cifar10" ? cifar10_labels() : cifar100_labels();
  CifarRecords records;
  checked([&] {
    for (const fs::path& file : files) read_cifar(file, labels, records);
  });
  const int64_t size = records.size(), side = CifarRecords::kSide;
  return {.inputs = at::from_blob(records.pixels.data(),
                                  {size, CifarRecords::kChannels, side, side}, at::kByte)
                        .to(at::kFloat)
                        .div_(kBrightest),
          .targets = at::from_blob(records.labels.data(), {size}, at::kByte).to(at::kLong),
          .classes = labels.back(),
          .name = name};
}

}  // namespace

DataSplit load_cifar(const std::string& name, const std::string& data_dir) {
  const CifarFiles files = find_files(data_folder(name, data_dir, kFiles));
  return {.train = read_part(name, files.train), .test = read_part(name, files.test)};
}

}  // namespace gradist
