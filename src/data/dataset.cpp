#include "data/dataset.h"

#include "data/cifar.h"
#include "data/compressed_rows.h"
#include "data/digits.h"
#include "data/hdf5_data.h"
#include "data/image_folder.h"
#include "data/mnist.h"
#include "data/tables.h"
#include "data/targets.h"
#include "data/transforms.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>

namespace gradist {
namespace {

/// The one table of data sets: a new one is a row here and a file of its own.
struct NamedReader {
  const char* name;
  DataSplit (*read)(const DataOptions& options);
  bool stored = true;  ///< inputs can stay in their files
};

constexpr NamedReader kDataSets[] = {
    {"digits", [](const DataOptions& o) { return load_digits(o.data_dir); }, false},
    {"mnist", store_mnist},
    {"fashion-mnist", store_mnist},
    {"cifar10", store_cifar},
    {"cifar100", store_cifar},
    {"image-folder", store_image_folder},
    {"csv", load_csv},
    {"year-prediction-msd", load_year_prediction},
    {"libsvm", load_libsvm},
    {"hdf5", load_hdf5},
};

const NamedReader& reader_of(const DataOptions& options) {
  return *std::ranges::find(kDataSets, options.data, &NamedReader::name);
}

void check_places(const char* name, const std::vector<std::string>& places) {
  TORCH_CHECK_VALUE(places.size() == 2 && !places[0].empty() && !places[1].empty(), name, " = ",
                    c10::Join(",", places), ", must be two names, of the inputs and the targets");
}

at::Generator next_generator(at::Generator& seeds) {
  return at::detail::createCPUGenerator(seeds.get<at::CPUGeneratorImpl>()->random64());
}

}  // namespace

Dataset Dataset::to(at::Device device, at::ScalarType dtype) const {
  Dataset moved = *this;
  moved.targets = classes > 0 ? targets.to(device) : targets.to(device, dtype);
  const auto place = at::TensorOptions(device).dtype(dtype);
  if (stored) {
    moved.stored->place = place;
  } else {
    moved.inputs = inputs_to(inputs, place);
  }
  return moved;
}

at::Tensor Dataset::input_range(int64_t begin, int64_t count) const {
  if (!stored && !sparse()) return inputs.narrow(0, begin, count);
  return input_rows(at::arange(begin, begin + count, targets.options().dtype(at::kLong)));
}

at::Tensor Dataset::input_rows(const at::Tensor& rows) const {
  if (stored) return stored->read(rows);
  if (!sparse()) return inputs.index_select(0, rows);
  return select_rows(inputs, rows);
}

DataSplit in_memory(DataSplit split) {
  for (Dataset* data : {&split.train, &split.test}) {
    data->inputs = data->stored->read_all();
    data->stored.reset();
  }
  return split;
}

const std::vector<std::string>& data_names() {
  static const auto names = [] {
    std::vector<std::string> list;
    for (const NamedReader& row : kDataSets) list.emplace_back(row.name);
    return list;
  }();
  return names;
}

void validate(const DataOptions& options) {
  TORCH_CHECK_VALUE(std::ranges::find(data_names(), options.data) != data_names().end(),
                    "data = ", options.data, ", must be one of ", c10::Join(", ", data_names()));
  TORCH_CHECK_VALUE(std::ranges::find(target_names(), options.targets) != target_names().end(),
                    "targets = ", options.targets, ", must be one of ",
                    c10::Join(", ", target_names()));
  TORCH_CHECK_VALUE(options.target_column == "first" || options.target_column == "last",
                    "target-column = ", options.target_column, ", must be first or last");
  validate_examples(options.train_examples);
  TORCH_CHECK_VALUE(!options.stream || reader_of(options).stored,
                    "stream = yes, must be no for data = ", options.data,
                    ", which is always in memory");
  check_places("hdf5-train", options.hdf5_train);
  check_places("hdf5-test", options.hdf5_test);
  validate_label_corruption(options.label_corruption);
  validate_duplicates(options.duplicate_points, options.duplicate_fraction);
}

DataSplit load_data(const DataOptions& options) {
  validate(options);
  DataSplit split = reader_of(options).read(options);
  if (options.standardize) standardize(split);
  if (split.train.stored && !options.stream) split = in_memory(std::move(split));
  // A generator for each, so that corrupting labels leaves the choice of duplicates as it was.
  at::Generator seeds = at::detail::createCPUGenerator(options.seed);
  at::Generator corruption = next_generator(seeds);
  at::Generator duplicates = next_generator(seeds);
  at::Generator examples = next_generator(seeds);
  take_examples(split.train, options.train_examples, examples);
  corrupt_labels(split.train, options.label_corruption, corruption);
  duplicate_points(split.train, options.duplicate_points, options.duplicate_fraction, duplicates);
  return split;
}

}  // namespace gradist
