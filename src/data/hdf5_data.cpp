#include "data/hdf5_data.h"

#include "data/data_folder.h"
#include "data/hdf5_array.h"
#include "data/targets.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

namespace gradist {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFiles = "one HDF5 file (*.h5 or *.hdf5), or the files that are named";

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

/// Of [N, features] or [N, channels, height, width], with the dimension that is left out.
std::vector<int64_t> input_sizes(std::vector<int64_t> sizes, const Hdf5Place& place) {
  TORCH_CHECK_VALUE(sizes.size() <= 4, text_of(place), ": ", sizes.size(),
                    " dimensions, must be [N], [N, features], [N, height, width] or [N, channels, "
                    "height, width]");
  if (sizes.size() == 1 || sizes.size() == 3) sizes.insert(sizes.begin() + 1, 1);
  return sizes;
}

class StoredHdf5 final : public InputSource {
 public:
  StoredHdf5(std::unique_ptr<const Hdf5Rows> rows, std::vector<int64_t> sizes)
      : InputSource(std::move(sizes)), rows_(std::move(rows)) {}

  at::Tensor read(const at::Tensor& rows, const InputScale& scale) const override {
    const at::Tensor wanted = rows.contiguous();
    const auto* row = wanted.const_data_ptr<int64_t>();
    auto values = std::make_shared<std::vector<float>>(checked([&] {
      return rows_->read({row, row + rows.numel()});
    }));
    std::vector<int64_t> shape = sizes();
    shape[0] = rows.numel();
    at::Tensor inputs = at::from_blob(
        values->data(), shape, [values](void*) {}, at::kFloat);
    scale.apply(inputs);
    return inputs;
  }

 private:
  std::unique_ptr<const Hdf5Rows> rows_;
};

void set_inputs(Dataset& data, const Hdf5Place& place, bool stream) {
  if (stream) {
    auto rows = checked([&] { return std::make_unique<const Hdf5Rows>(place); });
    auto sizes = input_sizes(rows->sizes(), place);
    data.stored = StoredInputs{.source = std::make_shared<StoredHdf5>(std::move(rows), sizes)};
  } else {
    const at::Tensor inputs = read(place);
    data.inputs = inputs.view(input_sizes(inputs.sizes().vec(), place));
  }
  data.tabular = data.example_shape().size() == 1;
}

at::Tensor read_targets(const Hdf5Place& place, int64_t examples, const std::string& inputs_text) {
  const at::Tensor targets = read(place);
  TORCH_CHECK_VALUE(targets.numel() == targets.size(0), text_of(place), ": ", targets.sizes(),
                    " numbers, must be one an example");
  TORCH_CHECK_VALUE(targets.size(0) == examples, text_of(place), ": ", targets.size(0),
                    " targets, must be as many as the ", examples, " inputs of ", inputs_text);
  return targets.flatten();
}

struct Part {
  Dataset data;
  at::Tensor labels;  ///< as they are in the file
  std::string inputs_text, labels_text;
};

Part read_part(const std::vector<std::string>& names, const DataOptions& options) {
  const Hdf5Place inputs = place_of(names[0], options.data_dir);
  const Hdf5Place targets = place_of(names[1], options.data_dir);
  Part part{.data = {.name = options.data},
            .labels = {},
            .inputs_text = text_of(inputs),
            .labels_text = text_of(targets)};
  set_inputs(part.data, inputs, options.stream);
  part.labels = read_targets(targets, part.data.size(), part.inputs_text);
  return part;
}

}  // namespace

DataSplit load_hdf5(const DataOptions& options) {
  const Part train = read_part(options.hdf5_train, options);
  const Part test = read_part(options.hdf5_test, options);
  const at::IntArrayRef train_shape = train.data.example_shape();
  const at::IntArrayRef test_shape = test.data.example_shape();
  TORCH_CHECK_VALUE(train_shape == test_shape, test.inputs_text, ": examples of ", test_shape,
                    ", must be ", train_shape, " as those of ", train.inputs_text);
  DataSplit split{.train = train.data, .test = test.data};
  set_targets(split, options.targets, train.labels, test.labels,
              {train.labels_text, test.labels_text});
  return split;
}

}  // namespace gradist
