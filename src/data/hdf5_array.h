#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace gradist {

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
/// a DataError of one line. Memory is that of the numbers really there and a fixed piece.
Hdf5Array read_hdf5(const Hdf5Place& place);

/// A line for `data info`: the data sets of a file with their sizes. All numbers are read, in a
/// child process too.
std::string describe_hdf5(const std::filesystem::path& file);

namespace detail {

/// The same by this process, for tests of HDF5 files whose structure is sound.
Hdf5Array read_hdf5_in_process(const Hdf5Place& place);
std::string describe_hdf5_in_process(const std::filesystem::path& file);

}  // namespace detail

}  // namespace gradist
