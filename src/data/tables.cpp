#include "data/tables.h"

#include "data/csv.h"
#include "data/data_folder.h"
#include "data/libsvm.h"
#include "data/targets.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace gradist {
namespace {

namespace fs = std::filesystem;

/// The file of this name, plain or with .gz behind it.
fs::path plain_or_gz(const fs::path& folder, const std::string& name, const std::string& files) {
  for (const char* ending : {"", ".gz"}) {
    const fs::path file = folder / (name + ending);
    std::error_code error;
    if (fs::exists(file, error)) return file;
  }
  TORCH_CHECK_VALUE(false, "data-dir = ", folder.string(), ", has no ", name, ", must hold ",
                    files);
}

/// [N, columns]
at::Tensor read_table(const fs::path& file) {
  CsvTable table = checked([&] { return read_csv(file); });
  return at::from_blob(table.values.data(), {table.rows(), table.columns}, at::kFloat).clone();
}

/// The columns but one.
at::Tensor without_column(const at::Tensor& table, int64_t column) {
  return at::cat({table.slice(1, 0, column), table.slice(1, column + 1)}, 1);
}

DataSplit split_of(const std::string& name, const at::Tensor& train, const at::Tensor& test,
                   int64_t target) {
  DataSplit split;
  for (const auto& [part, table] : {std::pair(&split.train, &train), {&split.test, &test}}) {
    part->inputs = without_column(*table, target);
    part->targets = table->select(1, target).contiguous();
    part->name = name;
    part->tabular = true;
  }
  return split;
}

struct LibsvmFiles {
  fs::path train, test;
};

LibsvmFiles find_libsvm(const fs::path& folder) {
  const std::string files = "one pair of files NAME and NAME.t (plain or .gz)";
  std::vector<LibsvmFiles> pairs;
  for (const fs::path& file : files_of(folder)) {
    const fs::path test = file.extension() == ".gz" ? file.stem() : file.filename();
    if (test.extension() != ".t") continue;
    if (test != file.filename() && fs::exists(folder / test)) continue;
    pairs.push_back({plain_or_gz(folder, test.stem().string(), files), file});
  }
  TORCH_CHECK_VALUE(pairs.size() == 1, "data-dir = ", folder.string(), ", has ", pairs.size(),
                    " files NAME.t, must hold ", files);
  return pairs.front();
}

/// The values of a vector of the reader's.
template <typename Number>
at::Tensor copied(std::vector<Number>& values, at::ScalarType type) {
  return at::from_blob(values.data(), {static_cast<int64_t>(values.size())}, type).clone();
}

at::Tensor inputs_of(SparseRows& rows, int64_t features) {
  return compressed_rows(copied(rows.starts, at::kLong), copied(rows.columns, at::kLong),
                         copied(rows.values, at::kFloat), rows.rows(), features);
}

}  // namespace

DataSplit load_csv(const DataOptions& options) {
  const std::string files = "train.csv and test.csv (plain or .gz)";
  const fs::path folder = data_folder(options.data, options.data_dir, files);
  const fs::path train_file = plain_or_gz(folder, "train.csv", files);
  const fs::path test_file = plain_or_gz(folder, "test.csv", files);
  const at::Tensor train = read_table(train_file), test = read_table(test_file);
  TORCH_CHECK_VALUE(train.size(1) == test.size(1), test_file.string(), ": ", test.size(1),
                    " columns, must be ", train.size(1), " as those of ", train_file.string());
  DataSplit split =
      split_of(options.data, train, test, options.target_column == "first" ? 0 : train.size(1) - 1);
  set_targets(split, options.targets, split.train.targets, split.test.targets,
              {train_file.string(), test_file.string()});
  return split;
}

DataSplit load_year_prediction(const std::string& data_dir, int64_t train) {
  constexpr int64_t kColumns = 91;
  const std::string name = "year-prediction-msd";
  const std::string files = "YearPredictionMSD.txt (plain or .gz)";
  const fs::path folder = data_folder(name, data_dir, files);
  const fs::path file = plain_or_gz(folder, "YearPredictionMSD.txt", files);
  const at::Tensor table = read_table(file);
  TORCH_CHECK_VALUE(table.size(1) == kColumns, file.string(), ": ", table.size(1),
                    " columns, must be ", kColumns, ", the year and 90 features");
  TORCH_CHECK_VALUE(table.size(0) > train, file.string(), ": ", table.size(0),
                    " songs, must be more than the ", train, " of the training set");
  return split_of(name, table.slice(0, 0, train), table.slice(0, train), 0);
}

DataSplit load_year_prediction(const DataOptions& options) {
  constexpr int64_t kTrain = 463715;
  return load_year_prediction(options.data_dir, kTrain);
}

DataSplit load_libsvm(const DataOptions& options) {
  const fs::path folder = data_folder(options.data, options.data_dir,
                                      "one pair of files NAME and NAME.t (plain or .gz)");
  const LibsvmFiles files = find_libsvm(folder);
  SparseRows train = checked([&] { return read_libsvm(files.train); });
  SparseRows test = checked([&] { return read_libsvm(files.test); });
  const int64_t features = std::max({train.features, test.features, int64_t{1}});
  DataSplit split{.train = {.inputs = inputs_of(train, features), .name = options.data},
                  .test = {.inputs = inputs_of(test, features), .name = options.data}};
  set_targets(split, options.targets, copied(train.labels, at::kFloat),
              copied(test.labels, at::kFloat), {files.train.string(), files.test.string()});
  return split;
}

}  // namespace gradist
