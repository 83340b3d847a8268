#include "rf/sweep_file.h"

#include "storage/hdf5_maker.h"
#include "storage/output_place.h"

#include <c10/util/Exception.h>
#include <hdf5.h>
#include <hdf5_hl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <thread>
#include <utility>

namespace gradist::rf {

namespace {

using gradist::detail::Hdf5Check;
using gradist::detail::Hdf5Handle;
using gradist::detail::Hdf5Maker;
using gradist::detail::memory_type;
using gradist::detail::QuietHdf5;

constexpr const char* kSchema = "gradist-sweep";
constexpr const char* kComplete = "complete";

std::vector<hsize_t> extents_of(const SweepOptions& options, bool by_estimator, bool by_iteration) {
  const auto shape = grid_shape(options);
  std::vector<hsize_t> extents(shape.begin(), shape.end());
  if (by_estimator) {
    extents.push_back(options.estimators.size());
  }
  if (by_iteration) {
    extents.push_back(log_points(options).size());
  }
  return extents;
}

/// The open datasets of a sweep, whoever made them.
struct Datasets {
  Hdf5Handle complete;
  std::vector<Hdf5Handle> columns;
};

Datasets open_datasets(hid_t file, const SweepOptions& options, const std::string& path,
                       const Hdf5Check& check) {
  const auto open = [&](const char* name, const std::vector<hsize_t>& expected) {
    auto dataset = check.handle(H5Dopen2(file, name, H5P_DEFAULT), H5Dclose);
    const auto space = check.handle(H5Dget_space(dataset), H5Sclose);
    std::vector<hsize_t> extents(expected.size());
    const bool as_expected =
        H5Sget_simple_extent_ndims(space) == static_cast<int>(expected.size()) &&
        H5Sget_simple_extent_dims(space, extents.data(), nullptr) >= 0 && extents == expected;
    TORCH_CHECK_VALUE(as_expected, path, ", must be a gradist sweep: ", name,
                      " is not what it should be");
    return dataset;
  };
  Datasets datasets;
  datasets.complete = open(kComplete, extents_of(options, false, false));
  for (const auto& column : sweep_columns()) {
    datasets.columns.push_back(
        open(column.name, extents_of(options, column.by_estimator, column.by_iteration)));
  }
  return datasets;
}

/// The numbers of one model in a dataset whose first nine axes are the grid's.
Hdf5Handle model_space(hid_t dataset, const SweepOptions& options, int64_t model,
                       const Hdf5Check& check) {
  auto space = check.handle(H5Dget_space(dataset), H5Sclose);
  std::vector<hsize_t> count(static_cast<size_t>(H5Sget_simple_extent_ndims(space)));
  check(H5Sget_simple_extent_dims(space, count.data(), nullptr));
  std::vector<hsize_t> start(count.size(), 0);
  const auto shape = grid_shape(options);
  for (size_t axis = shape.size(); axis-- > 0;) {
    start[axis] = static_cast<hsize_t>(model % shape[axis]);
    model /= shape[axis];
    count[axis] = 1;
  }
  check(H5Sselect_hyperslab(space, H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr));
  return space;
}

std::vector<bool> read_complete(hid_t dataset, int64_t models, const Hdf5Check& check) {
  std::vector<uint8_t> flags(static_cast<size_t>(models));
  check(H5Dread(dataset, memory_type(uint8_t()), H5S_ALL, H5S_ALL, H5P_DEFAULT, flags.data()));
  return {flags.begin(), flags.end()};
}

std::string text_attribute(hid_t file, const char* name, const std::string& path,
                           const Hdf5Check& check) {
  const auto attribute = check.handle(H5Aopen(file, name, H5P_DEFAULT), H5Aclose);
  const auto type = check.handle(H5Aget_type(attribute), H5Tclose);
  const auto space = check.handle(H5Aget_space(attribute), H5Sclose);
  TORCH_CHECK_VALUE(H5Tis_variable_str(type) > 0 && H5Sget_simple_extent_npoints(space) == 1, path,
                    ", must be a gradist sweep: attribute ", name, " is not what it should be");
  char* text = nullptr;
  check(H5Aread(attribute, type, &text));
  std::string result = text == nullptr ? "" : text;
  H5free_memory(text);
  return result;
}

int64_t whole_attribute(hid_t file, const char* name, const Hdf5Check& check) {
  const auto attribute = check.handle(H5Aopen(file, name, H5P_DEFAULT), H5Aclose);
  int64_t value = 0;
  check(H5Aread(attribute, H5T_NATIVE_INT64, &value));
  return value;
}

/// The options in a sweep's config, its schema checked.
SweepOptions read_options(hid_t file, const std::string& path, const Hdf5Check& check) {
  TORCH_CHECK_VALUE(text_attribute(file, "schema", path, check) == kSchema, path,
                    ", must be a gradist sweep: attribute schema is not what it should be");
  const int64_t version = whole_attribute(file, "schema_version", check);
  TORCH_CHECK_VALUE(version == kSweepSchemaVersion, path, ": schema_version = ", version,
                    ", must be ", kSweepSchemaVersion);
  SweepOptions options;
  OptionList list = list_options(options);
  set_from_toml(list, text_attribute(file, "config", path, check), path);
  return options;
}

/// What lies in two grids differently, for the error.
std::string first_difference(const SweepOptions& expected, const SweepOptions& found) {
  SweepOptions left = expected;
  SweepOptions right = found;
  const auto ours = list_options(left);
  const auto theirs = list_options(right);
  for (size_t i = 0; i < ours.size(); ++i) {
    if (ours[i].group() != kRunGroup && ours[i].text() != theirs[i].text()) {
      return ours[i].name() + " = " + theirs[i].text() + ", must be " + ours[i].text();
    }
  }
  return "";
}

void refuse_other_grid(const std::string& path, const SweepOptions& expected,
                       const SweepOptions& found) {
  const std::string difference = first_difference(expected, found);
  TORCH_CHECK_VALUE(difference.empty(), path, ": ", difference, " (it is a sweep of another grid)");
}

/// Opens a file that another process may just be opening: for that moment HDF5 locks it.
hid_t open_patiently(const std::string& path, unsigned flags, hid_t access) {
  constexpr int kTries = 40;
  constexpr std::chrono::milliseconds kPause(50);
  for (int tries = 1;; ++tries) {
    errno = 0;
    const hid_t file = H5Fopen(path.c_str(), flags, access);
    if (file >= 0 || errno != EWOULDBLOCK || tries == kTries) {
      return file;
    }
    std::this_thread::sleep_for(kPause);
  }
}

void check_is_file(const std::string& path) {
  std::error_code ignored;
  TORCH_CHECK_VALUE(std::filesystem::is_regular_file(path, ignored), path,
                    ", must be an existing file");
}

}  // namespace

class SweepFile::File {
 public:
  /// A new file, under its name only once it is whole.
  File(std::string path, const SweepOptions& options, bool overwrite)
      : path_(std::move(path)), options_(options), check_(path_, "cannot be written") {
    const std::string temporary = path_ + ".partial-" + std::to_string(getpid());
    try {
      const Hdf5Maker make(check_);
      file_ = make.file(temporary);
      write(make);
      check_(H5Fflush(file_, H5F_SCOPE_GLOBAL));
      begin();  // before it has its name: whoever finds it may read it at once
      gradist::detail::publish_file(temporary, path_, overwrite);
    } catch (...) {
      datasets_ = {};
      file_.reset();
      std::error_code ignored;
      std::filesystem::remove(temporary, ignored);
      throw;
    }
  }

  /// An existing one. The flags that a killed writer left would refuse the opening.
  File(std::string path, const SweepOptions& options)
      : path_(std::move(path)),
        options_(options),
        check_(path_, "must be a writable gradist sweep") {
    check_is_file(path_);
    const auto access = check_.handle(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    check_(H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST));
    const hbool_t clear = true;
    check_(H5Pset(access, "clear_status_flags", &clear));
    file_ = check_.handle(open_patiently(path_, H5F_ACC_RDWR, access), H5Fclose);
    refuse_other_grid(path_, options_, read_options(file_, path_, check_));
    begin();
  }

  const std::vector<bool>& complete() const { return complete_; }

  /// First the numbers, then the word that they are there.
  void add(int64_t model, const ModelRecord& record) {
    for (size_t c = 0; c < sweep_columns().size(); ++c) {
      const auto& column = sweep_columns()[c];
      const auto& values = record.*column.values;
      TORCH_INTERNAL_ASSERT(static_cast<int64_t>(values.size()) == numbers_in(column, options_));
      write_numbers(datasets_.columns[c], model, values);
    }
    check_(H5Fflush(file_, H5F_SCOPE_GLOBAL));
    write_numbers(datasets_.complete, model, std::vector<uint8_t>{1});
    check_(H5Fflush(file_, H5F_SCOPE_GLOBAL));
    complete_[static_cast<size_t>(model)] = true;
  }

 private:
  void begin() {
    datasets_ = open_datasets(file_, options_, path_, check_);
    complete_ = read_complete(datasets_.complete, models_in(options_), check_);
    check_(H5Fstart_swmr_write(file_));
  }

  template <class Number>
  void write_numbers(hid_t dataset, int64_t model, const std::vector<Number>& values) const {
    const auto space = model_space(dataset, options_, model, check_);
    const hsize_t count = values.size();
    const auto memory = check_.handle(H5Screate_simple(1, &count, nullptr), H5Sclose);
    check_(H5Dwrite(dataset, memory_type(Number()), memory, space, H5P_DEFAULT, values.data()));
  }

  void write(const Hdf5Maker& make) const {
    make.attribute(file_, "schema", std::string(kSchema));
    make.attribute(file_, "schema_version", kSweepSchemaVersion);
    make.attribute(file_, "gradist_version", std::string(GRADIST_VERSION));
    make.attribute(file_, "config", config_of(options_));
    const auto axes = write_axes(make);
    const size_t estimator = axes.size() - 2;
    const size_t iteration = axes.size() - 1;
    const auto attach = [&](hid_t dataset, bool by_estimator, bool by_iteration) {
      unsigned place = 0;
      for (size_t axis = 0; axis < axes.size(); ++axis) {
        if ((axis != estimator || by_estimator) && (axis != iteration || by_iteration)) {
          check_(H5DSattach_scale(dataset, axes[axis], place++));
        }
      }
    };
    const auto complete = make.block<uint8_t>(file_, kComplete, extents_of(options_, false, false));
    make.attribute(complete, "long_name", std::string("1 where the model is there"));
    attach(complete, false, false);
    for (const auto& column : sweep_columns()) {
      const auto dataset = make.block<double>(
          file_, column.name, extents_of(options_, column.by_estimator, column.by_iteration));
      make.attribute(dataset, "long_name", std::string(column.long_name));
      attach(dataset, column.by_estimator, column.by_iteration);
    }
  }

  std::vector<Hdf5Handle> write_axes(const Hdf5Maker& make) const {
    std::vector<Hdf5Handle> axes;
    const auto add = [&](const char* name, const char* long_name, const auto& values) {
      axes.push_back(make.scale(file_, name, values));
      make.attribute(axes.back(), "long_name", std::string(long_name));
    };
    add("n", "training examples N", options_.n);
    add("d_in", "dimension of the inputs", options_.d_in);
    add("h_teacher", "hidden width of the teacher", options_.h_teacher);
    add("h_student", "hidden width of the student", options_.h_student);
    add("duplicates", "fraction that repeated points make up", options_.duplicates);
    add("batch_size", "examples B", options_.batch_size);
    add("lr", "learning rate", options_.lr);
    add("weight_decay", "weight decay", options_.weight_decay);
    add("seed", "seed", options_.seeds);
    add("estimator", "gradient estimator", options_.estimators);
    add("iteration", "SGD steps done", log_points(options_));
    return axes;
  }

  QuietHdf5 quiet_;
  std::string path_;
  SweepOptions options_;
  Hdf5Check check_;
  Hdf5Handle file_;
  Datasets datasets_;
  std::vector<bool> complete_;
};

SweepFile::SweepFile(std::unique_ptr<File> file) : file_(std::move(file)) {}
SweepFile::SweepFile(SweepFile&&) noexcept = default;
SweepFile& SweepFile::operator=(SweepFile&&) noexcept = default;
SweepFile::~SweepFile() = default;

SweepFile SweepFile::create(const std::string& path, const SweepOptions& options, bool overwrite) {
  gradist::detail::check_output_place(path, overwrite);
  // A link stays a link: what it points to is replaced.
  std::error_code error;
  const auto target = std::filesystem::weakly_canonical(path, error);
  return SweepFile(std::make_unique<File>(error ? path : target.string(), options, overwrite));
}

SweepFile SweepFile::resume(const std::string& path, const SweepOptions& options) {
  return SweepFile(std::make_unique<File>(path, options));
}

const std::vector<bool>& SweepFile::complete() const { return file_->complete(); }

void SweepFile::add(int64_t model, const ModelRecord& record) { file_->add(model, record); }

class SweepReader::File {
 public:
  explicit File(std::string path)
      : path_(std::move(path)), check_(path_, "must be a gradist sweep") {
    check_is_file(path_);
    file_ = {open_patiently(path_, H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose};
    if (!file_) {
      // One that is being written, or whose writer was killed, refuses plain opens. HDF5's own
      // patience with a broken one never ends.
      const auto access = check_.handle(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
      check_(H5Pset_metadata_read_attempts(access, 20));
      file_ = check_.handle(open_patiently(path_, H5F_ACC_RDONLY | H5F_ACC_SWMR_READ, access),
                            H5Fclose);
    }
    options_ = read_options(file_, path_, check_);
    datasets_ = open_datasets(file_, options_, path_, check_);
    complete_ = read_complete(datasets_.complete, models_in(options_), check_);
  }

  const std::string& path() const { return path_; }
  const SweepOptions& options() const { return options_; }
  const std::vector<bool>& complete() const { return complete_; }

  ModelRecord record(int64_t model) const {
    ModelRecord record;
    for (size_t c = 0; c < sweep_columns().size(); ++c) {
      const auto& column = sweep_columns()[c];
      auto& values = record.*column.values;
      values.resize(static_cast<size_t>(numbers_in(column, options_)));
      const hid_t dataset = datasets_.columns[c];
      const auto space = model_space(dataset, options_, model, check_);
      const hsize_t count = values.size();
      const auto memory = check_.handle(H5Screate_simple(1, &count, nullptr), H5Sclose);
      check_(H5Dread(dataset, memory_type(double()), memory, space, H5P_DEFAULT, values.data()));
    }
    return record;
  }

 private:
  QuietHdf5 quiet_;
  std::string path_;
  Hdf5Check check_;
  Hdf5Handle file_;
  SweepOptions options_;
  Datasets datasets_;
  std::vector<bool> complete_;
};

SweepReader::SweepReader(const std::string& path) : file_(std::make_unique<File>(path)) {}
SweepReader::SweepReader(SweepReader&&) noexcept = default;
SweepReader::~SweepReader() = default;

const std::string& SweepReader::path() const { return file_->path(); }
const SweepOptions& SweepReader::options() const { return file_->options(); }
const std::vector<bool>& SweepReader::complete() const { return file_->complete(); }
ModelRecord SweepReader::record(int64_t model) const { return file_->record(model); }

}  // namespace gradist::rf
