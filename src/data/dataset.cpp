#include "data/dataset.h"

#include "data/cifar.h"
#include "data/digits.h"
#include "data/mnist.h"
#include "data/transforms.h"

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
};

constexpr NamedReader kDataSets[] = {
    {"digits", [](const DataOptions& o) { return load_digits(o.data_dir); }},
    {"mnist", [](const DataOptions& o) { return load_mnist(o.data, o.data_dir); }},
    {"fashion-mnist", [](const DataOptions& o) { return load_mnist(o.data, o.data_dir); }},
    {"cifar10", [](const DataOptions& o) { return load_cifar(o.data, o.data_dir); }},
    {"cifar100", [](const DataOptions& o) { return load_cifar(o.data, o.data_dir); }},
};

DataSplit read_data(const DataOptions& options) {
  const auto* row = std::ranges::find(kDataSets, options.data, &NamedReader::name);
  return row->read(options);
}

at::Generator next_generator(at::Generator& seeds) {
  return at::detail::createCPUGenerator(seeds.get<at::CPUGeneratorImpl>()->random64());
}

}  // namespace

Dataset Dataset::to(at::Device device, at::ScalarType dtype) const {
  Dataset moved = *this;
  moved.inputs = inputs.to(device, dtype);
  moved.targets = classes > 0 ? targets.to(device) : targets.to(device, dtype);
  return moved;
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
  validate_label_corruption(options.label_corruption);
  validate_duplicates(options.duplicate_points, options.duplicate_fraction);
}

DataSplit load_data(const DataOptions& options) {
  validate(options);
  DataSplit split = read_data(options);
  if (options.standardize) standardize(split);
  // A generator for each, so that corrupting labels leaves the choice of duplicates as it was.
  at::Generator seeds = at::detail::createCPUGenerator(options.seed);
  at::Generator corruption = next_generator(seeds);
  at::Generator duplicates = next_generator(seeds);
  corrupt_labels(split.train, options.label_corruption, corruption);
  duplicate_points(split.train, options.duplicate_points, options.duplicate_fraction, duplicates);
  return split;
}

}  // namespace gradist
