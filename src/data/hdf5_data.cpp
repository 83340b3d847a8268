#include "data/hdf5_data.h"

#include "data/data_folder.h"
#include "data/hdf5_array.h"
#include "data/targets.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <filesystem>
#include <memory>
#include <utility>

namespace gradist {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFiles = "one HDF5 file (*.h5 or *.hdf5), or the files that are named";
constexpr double kMostExact = 1 << 24;  // up to here floats tell whole numbers apart

/// The file of names without one: `data_dir` itself, or the only one in it.
fs::path only_file(const std::string& data_dir) {
  std::error_code error;
  if (fs::is_regular_file(data_dir, error)) return data_dir;
  std::vector<fs::path> found;
  for (const fs::path& file : files_of(data_folder("hdf5", data_dir, kFiles))) {
    if (file.extension() == ".h5" || file.extension() == ".hdf5") found.push_back(file);
  }
  TORCH_CHECK_VALUE(found.size() == 1, "data-dir = ", data_dir, ", has ", found.size(),
                    " HDF5 files, must hold ", kFiles);
  return found.front();
}

Hdf5Place place_of(const std::string& text, const std::string& data_dir) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos) return {only_file(data_dir), text};
  return {data_folder("hdf5", data_dir, kFiles) / text.substr(0, colon), text.substr(colon + 1)};
}

std::string text_of(const Hdf5Place& place) { return place.file.string() + ":" + place.name; }

at::Tensor read(const Hdf5Place& place) {
  auto array = std::make_shared<Hdf5Array>(checked([&] { return read_hdf5(place); }));
  return at::from_blob(
      array->values.data(), array->sizes, [array](void*) {}, at::kFloat);
}

at::Tensor read_inputs(const Hdf5Place& place) {
  at::Tensor inputs = read(place);
  TORCH_CHECK_VALUE(inputs.dim() <= 4, text_of(place), ": ", inputs.dim(),
                    " dimensions, must be [N, features], [N, height, width] or [N, channels, "
                    "height, width]");
  if (inputs.dim() == 1) return inputs.unsqueeze(1);
  return inputs.dim() == 3 ? inputs.unsqueeze(1) : inputs;
}

at::Tensor read_targets(const Hdf5Place& place, const at::Tensor& inputs,
                        const std::string& inputs_text, const std::string& kind) {
  const at::Tensor targets = read(place);
  TORCH_CHECK_VALUE(targets.numel() == targets.size(0), text_of(place), ": ", targets.sizes(),
                    " numbers, must be one an example");
  TORCH_CHECK_VALUE(targets.size(0) == inputs.size(0), text_of(place), ": ", targets.size(0),
                    " targets, must be as many as the ", inputs.size(0), " inputs of ",
                    inputs_text);
  const auto largest = targets.abs().max().item<double>();
  TORCH_CHECK_VALUE(kind != "classes" || largest <= kMostExact, text_of(place), ": label ", largest,
                    ", must be at most ", kMostExact, " where targets = classes");
  return targets.flatten();
}

struct Part {
  at::Tensor inputs, targets;
  std::string inputs_text, targets_text;
};

Part read_part(const std::vector<std::string>& names, const DataOptions& options) {
  const Hdf5Place inputs = place_of(names[0], options.data_dir);
  const Hdf5Place targets = place_of(names[1], options.data_dir);
  Part part{.inputs = read_inputs(inputs),
            .targets = {},
            .inputs_text = text_of(inputs),
            .targets_text = text_of(targets)};
  part.targets = read_targets(targets, part.inputs, part.inputs_text, options.targets);
  return part;
}

}  // namespace

DataSplit load_hdf5(const DataOptions& options) {
  const Part train = read_part(options.hdf5_train, options);
  const Part test = read_part(options.hdf5_test, options);
  TORCH_CHECK_VALUE(train.inputs.sizes().slice(1) == test.inputs.sizes().slice(1), test.inputs_text,
                    ": examples of ", test.inputs.sizes().slice(1), ", must be ",
                    train.inputs.sizes().slice(1), " as those of ", train.inputs_text);
  const bool tabular = train.inputs.dim() == 2;
  DataSplit split{.train = {.inputs = train.inputs, .name = options.data, .tabular = tabular},
                  .test = {.inputs = test.inputs, .name = options.data, .tabular = tabular}};
  set_targets(split, options.targets, train.targets, test.targets,
              {train.targets_text, test.targets_text});
  return split;
}

}  // namespace gradist
