#include "trajectory/trace_reader.h"

#include "storage/hdf5_handle.h"
#include "trajectory/statistics.h"
#include "trajectory/trace_writer.h"

#include <c10/util/Exception.h>
#include <hdf5.h>

#include <algorithm>
#include <numeric>

namespace gradist {

namespace {

using detail::Hdf5Check;
using detail::Hdf5Handle;

/// No series of a trace is longer; a file that claims more is broken.
constexpr hssize_t kLongestSeries = 100'000'000;

class TraceFile {
 public:
  explicit TraceFile(const std::string& path)
      : path_(path), check_(path, "must be a gradist trace") {
    file_ = {H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose};
    if (!file_) {
      open_unfinished();
    }
  }

  int64_t whole_attribute(const char* name) const {
    const auto attribute = check_.handle(H5Aopen(file_, name, H5P_DEFAULT), H5Aclose);
    int64_t value = 0;
    check_single(attribute, name);
    check_(H5Aread(attribute, H5T_NATIVE_INT64, &value));
    return value;
  }

  std::string text_attribute(const char* name) const {
    const auto attribute = check_.handle(H5Aopen(file_, name, H5P_DEFAULT), H5Aclose);
    check_single(attribute, name);
    const auto stored = check_.handle(H5Aget_type(attribute), H5Tclose);
    refuse_unless(H5Tis_variable_str(stored) > 0, name);
    char* text = nullptr;
    check_(H5Aread(attribute, stored, &text));
    std::string result = text == nullptr ? "" : text;
    H5free_memory(text);
    return result;
  }

  std::vector<double> series(const std::string& name) const {
    const auto dataset = check_.handle(H5Dopen2(file_, name.c_str(), H5P_DEFAULT), H5Dclose);
    const auto space = check_.handle(H5Dget_space(dataset), H5Sclose);
    const hssize_t count = H5Sget_simple_extent_npoints(space);
    refuse_unless(H5Sget_simple_extent_ndims(space) == 1 && count >= 0 && count <= kLongestSeries,
                  name);
    std::vector<double> values(static_cast<size_t>(count));
    check_(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()));
    return values;
  }

  double last(const std::string& name) const {
    const auto values = series(name);
    return values.empty() ? kUndefined : values.back();
  }

  bool has(const std::string& name) const {
    return H5Lexists(file_, name.c_str(), H5P_DEFAULT) > 0;
  }

  /// The groups in a group, in the order in which they were made.
  std::vector<std::string> groups_in(const std::string& name) const {
    const auto group = check_.handle(H5Gopen2(file_, name.c_str(), H5P_DEFAULT), H5Gclose);
    std::vector<std::string> names;
    const auto collect = [](hid_t parent, const char* member, const H5L_info_t*,
                            void* list) -> herr_t {
      const Hdf5Handle object(H5Oopen(parent, member, H5P_DEFAULT), H5Oclose);
      if (object && H5Iget_type(object) == H5I_GROUP) {
        static_cast<std::vector<std::string>*>(list)->emplace_back(member);
      }
      return 0;
    };
    check_(H5Literate(group, H5_INDEX_CRT_ORDER, H5_ITER_INC, nullptr, collect, &names));
    return names;
  }

  void refuse_unless(bool holds, const std::string& what) const {
    TORCH_CHECK_VALUE(holds, path_, ", must be a gradist trace: ", what,
                      " is not what it should be");
  }

 private:
  /// A trace that is being written, or whose writer was killed, refuses plain opens. What the
  /// writer is just changing is read again, some milliseconds in all; HDF5's own patience of 100
  /// attempts with doubling pauses never ends on a broken file.
  void open_unfinished() {
    const auto access = check_.handle(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
    check_(H5Pset_metadata_read_attempts(access, 20));
    file_ =
        check_.handle(H5Fopen(path_.c_str(), H5F_ACC_RDONLY | H5F_ACC_SWMR_READ, access), H5Fclose);
  }

  void check_single(hid_t attribute, const char* name) const {
    const auto space = check_.handle(H5Aget_space(attribute), H5Sclose);
    refuse_unless(H5Sget_simple_extent_npoints(space) == 1, name);
  }

  detail::QuietHdf5 quiet_;
  std::string path_;
  Hdf5Check check_;
  Hdf5Handle file_;
};

EstimatorSummary summarize(const TraceFile& file, const std::string& name) {
  const std::string group = "estimators/" + name + "/";
  EstimatorSummary summary;
  summary.name = name;
  const auto variance = file.series(group + "average_variance");
  summary.average_variance = median(variance);
  summary.ratio = file.has("estimators/sg-b")
                      ? median(quotients(variance, file.series("estimators/sg-b/average_variance")))
                      : kUndefined;
  summary.normalized_variance = median(file.series(group + "normalized_variance"));
  summary.noise_to_signal = median(file.series(group + "noise_to_signal"));
  const auto evaluations = file.series(group + "gradient_evaluations");
  summary.gradient_evaluations =
      static_cast<int64_t>(std::accumulate(evaluations.begin(), evaluations.end(), 0.0));
  if (file.has("refresh/" + name)) {
    summary.refreshes = static_cast<int64_t>(file.series("refresh/" + name + "/iteration").size());
  }
  return summary;
}

}  // namespace

TraceSummary read_trace_summary(const std::string& path) {
  const TraceFile file(path);
  file.refuse_unless(file.text_attribute("schema") == "gradist-trace", "attribute schema");
  TraceSummary summary;
  summary.schema_version = file.whole_attribute("schema_version");
  TORCH_CHECK_VALUE(summary.schema_version == kTraceSchemaVersion, path,
                    ": schema_version = ", summary.schema_version, ", must be ",
                    kTraceSchemaVersion);
  summary.gradist_version = file.text_attribute("gradist_version");
  summary.config = file.text_attribute("config");
  summary.parameters = file.whole_attribute("parameters");
  summary.examples = file.whole_attribute("examples");
  summary.batch_size = file.whole_attribute("batch_size");
  const auto iterations = file.series("trajectory/iteration");
  summary.log_points = static_cast<int64_t>(iterations.size());
  summary.iteration = iterations.empty() ? 0 : static_cast<int64_t>(iterations.back());
  summary.train_loss = file.last("trajectory/train_loss");
  summary.train_accuracy = file.last("trajectory/train_accuracy");
  summary.test_loss = file.last("trajectory/test_loss");
  summary.test_accuracy = file.last("trajectory/test_accuracy");
  summary.seconds = file.last("trajectory/seconds");
  for (const auto& name : file.groups_in("estimators")) {
    summary.estimators.push_back(summarize(file, name));
  }
  return summary;
}

}  // namespace gradist
