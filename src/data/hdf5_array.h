#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

namespace gradist {

namespace detail {
class ChildProcess;
}

/// A data set in an HDF5 file: "train.h5" and "/images/inputs".
struct Hdf5Place {
  std::filesystem::path file;
  std::string name;
};

/// Its numbers, all finite, as 32-bit floats, the last dimension fastest.
struct Hdf5Array {
  std::vector<int64_t> sizes;  ///< [N, ...], none of them zero
  std::vector<float> values;
};

/// Reads whole or floating-point numbers of any width, of 1 to 8 dimensions. HDF5 itself may crash
/// on a damaged file, so it is opened by a child process; whatever happens there, the error here is
/// a DataError of one line. Memory is that of the numbers really there and a fixed piece; the child
/// is held to what its extents and chunks can need.
Hdf5Array read_hdf5(const Hdf5Place& place);

/// The rows of a data set that stays in its file: those asked for are read by a child process,
/// which keeps the file open. What it may hold and how errors are told is as for read_hdf5, but for
/// the numbers: at most 2^40, 2^31 in one row.
class Hdf5Rows {
 public:
  /// Reads all numbers once, so that whatever is wrong is known now.
  explicit Hdf5Rows(const Hdf5Place& place);
  ~Hdf5Rows();

  const std::vector<int64_t>& sizes() const { return sizes_; }

  /// The numbers of these rows, one row after the other. A file that has changed is refused.
  std::vector<float> read(std::span<const int64_t> rows) const;

 private:
  std::filesystem::path file_;
  std::unique_ptr<detail::ChildProcess> child_;
  std::vector<int64_t> sizes_;
  mutable std::mutex asking_;  ///< the child answers one at a time
};

/// A line for `data info`: the data sets of a file with their sizes. All numbers are read, in a
/// child process too.
std::string describe_hdf5(const std::filesystem::path& file);

namespace detail {

/// The same by this process, for tests of HDF5 files whose structure is sound.
Hdf5Array read_hdf5_in_process(const Hdf5Place& place);
std::string describe_hdf5_in_process(const std::filesystem::path& file);

}  // namespace detail

}  // namespace gradist
