#include "data/tables.h"

#include "data/compressed_rows.h"
#include "data/csv.h"
#include "data/data_folder.h"
#include "data/libsvm.h"
#include "data/stored_tables.h"
#include "data/targets.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
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

/// The file, its rows read only where they are.
TextRows rows_in(const std::shared_ptr<const PlainFile>& file, std::span<const int64_t> begins) {
  const auto read = [file](int64_t position, std::span<uint8_t> into) {
    return file->read(position, into);
  };
  return {read, file->name(), begins};
}

/// A CSV file with a column of targets, read whole or left where it is.
class CsvFile {
 public:
  CsvFile(const fs::path& path, bool target_first, bool stream) : path_(path) {
    checked([&] { stream ? leave(target_first) : read(target_first); });
  }

  std::string name() const { return path_.string(); }
  int64_t columns() const { return columns_; }
  int64_t rows() const { return targets_.size(0); }

  /// The rows from `begin` on, targets as they are in the file.
  Dataset part(const std::string& name, int64_t begin, int64_t count) const {
    Dataset data{
        .targets = targets_.narrow(0, begin, count).clone(), .name = name, .tabular = true};
    if (file_) {
      const std::span<const int64_t> begins(begins_);
      TextRows rows = rows_in(file_, begins.subspan(begin, count + 1));
      data.stored = StoredInputs{.source = stored_csv(std::move(rows), columns_, target_)};
    } else {
      data.inputs = inputs_.narrow(0, begin, count);
    }
    return data;
  }
  Dataset all(const std::string& name) const { return part(name, 0, rows()); }

 private:
  void read(bool target_first) {
    CsvTable csv = read_csv(path_);
    set_columns(csv.columns, target_first);
    const at::Tensor table = at::from_blob(csv.values.data(), {csv.rows(), columns_}, at::kFloat);
    inputs_ = at::cat({table.slice(1, 0, target_), table.slice(1, target_ + 1)}, 1);
    targets_ = table.select(1, target_).clone();
  }

  void leave(bool target_first) {
    file_ = std::make_shared<PlainFile>(path_);
    TextIndex index = index_csv(file_->reader(), name(), target_first);
    set_columns(index.width, target_first);
    targets_ = at::tensor(index.labels);
    begins_ = std::move(index.begins);
  }

  void set_columns(int64_t columns, bool target_first) {
    columns_ = columns;
    target_ = target_first ? 0 : columns - 1;
  }

  fs::path path_;
  int64_t columns_ = 0, target_ = 0;
  at::Tensor targets_;
  at::Tensor inputs_;                      ///< read, or
  std::shared_ptr<const PlainFile> file_;  ///< left, ...
  std::vector<int64_t> begins_;            ///< ... a row beginning at each
};

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

/// Examples of one file: labels and, with as many features as both files need, inputs.
struct LibsvmFile {
  at::Tensor labels;
  int64_t features = 0;
  std::function<void(Dataset&, int64_t features)> set_inputs;
};

LibsvmFile read_whole(const fs::path& path) {
  auto rows = std::make_shared<const SparseRows>(read_libsvm(path));
  return {at::tensor(rows->labels), rows->features, [rows](Dataset& data, int64_t features) {
            data.inputs = compressed_rows(*rows, features);
          }};
}

LibsvmFile leave_in_place(const fs::path& path) {
  const auto file = std::make_shared<const PlainFile>(path);
  const TextIndex index = index_libsvm(file->reader(), file->name());
  const TextRows rows = rows_in(file, index.begins);
  return {at::tensor(index.labels), index.width, [rows](Dataset& data, int64_t features) {
            data.stored = StoredInputs{.source = stored_libsvm(rows, features)};
          }};
}

}  // namespace

DataSplit load_csv(const DataOptions& options) {
  const std::string files = "train.csv and test.csv (plain or .gz)";
  const fs::path folder = data_folder(options.data, options.data_dir, files);
  const fs::path train_file = plain_or_gz(folder, "train.csv", files);
  const fs::path test_file = plain_or_gz(folder, "test.csv", files);
  const bool first = options.target_column == "first";
  const CsvFile train(train_file, first, options.stream), test(test_file, first, options.stream);
  TORCH_CHECK_VALUE(train.columns() == test.columns(), test.name(), ": ", test.columns(),
                    " columns, must be ", train.columns(), " as those of ", train.name());
  DataSplit split{.train = train.all(options.data), .test = test.all(options.data)};
  set_targets(split, options.targets, split.train.targets, split.test.targets,
              {train.name(), test.name()});
  return split;
}

DataSplit load_year_prediction(const std::string& data_dir, int64_t train, bool stream) {
  constexpr int64_t kColumns = 91;
  const std::string name = "year-prediction-msd";
  const std::string files = "YearPredictionMSD.txt (plain or .gz)";
  const fs::path folder = data_folder(name, data_dir, files);
  const CsvFile songs(plain_or_gz(folder, "YearPredictionMSD.txt", files), /*target_first=*/true,
                      stream);
  TORCH_CHECK_VALUE(songs.columns() == kColumns, songs.name(), ": ", songs.columns(),
                    " columns, must be ", kColumns, ", the year and 90 features");
  TORCH_CHECK_VALUE(songs.rows() > train, songs.name(), ": ", songs.rows(),
                    " songs, must be more than the ", train, " of the training set");
  return {.train = songs.part(name, 0, train),
          .test = songs.part(name, train, songs.rows() - train)};
}

DataSplit load_year_prediction(const DataOptions& options) {
  constexpr int64_t kTrain = 463715;
  return load_year_prediction(options.data_dir, kTrain, options.stream);
}

DataSplit load_libsvm(const DataOptions& options) {
  const fs::path folder = data_folder(options.data, options.data_dir,
                                      "one pair of files NAME and NAME.t (plain or .gz)");
  const LibsvmFiles files = find_libsvm(folder);
  const auto open = options.stream ? leave_in_place : read_whole;
  const LibsvmFile train = checked([&] { return open(files.train); });
  const LibsvmFile test = checked([&] { return open(files.test); });
  const int64_t features = std::max({train.features, test.features, int64_t{1}});
  DataSplit split{.train = {.name = options.data}, .test = {.name = options.data}};
  train.set_inputs(split.train, features);
  test.set_inputs(split.test, features);
  set_targets(split, options.targets, train.labels, test.labels,
              {files.train.string(), files.test.string()});
  return split;
}

}  // namespace gradist
