#pragma once

#include <hdf5.h>

#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace gradist::test {

/// A data set as it lies in a file, read by the plain C interface and none of our code.
struct StoredDataset {
  std::vector<hsize_t> extents;
  std::vector<std::string>
      scales;  ///< name of the dimension scale of each axis, "" where there is none
  std::string bytes;

  template <class Number>
  std::vector<Number> values() const {
    std::vector<Number> numbers(bytes.size() / sizeof(Number));
    std::copy(bytes.begin(), bytes.end(), reinterpret_cast<char*>(numbers.data()));
    return numbers;
  }
};

namespace detail {

inline std::string path_of(hid_t object) {
  std::string path(static_cast<size_t>(H5Iget_name(object, nullptr, 0)), '\0');
  H5Iget_name(object, path.data(), path.size() + 1);
  return path;
}

/// The first scale of each axis, from the references of DIMENSION_LIST.
inline std::vector<std::string> scales_of(hid_t dataset, size_t rank) {
  std::vector<std::string> scales(rank);
  if (H5Aexists(dataset, "DIMENSION_LIST") <= 0) {
    return scales;
  }
  const hid_t attribute = H5Aopen(dataset, "DIMENSION_LIST", H5P_DEFAULT);
  const hid_t type = H5Aget_type(attribute);
  std::vector<hvl_t> lists(rank);
  H5Aread(attribute, type, lists.data());
  for (size_t axis = 0; axis < rank; ++axis) {
    if (lists[axis].len > 0) {
      const hid_t scale = H5Rdereference2(dataset, H5P_DEFAULT, H5R_OBJECT, lists[axis].p);
      scales[axis] = path_of(scale);
      H5Oclose(scale);
    }
  }
  H5Tclose(type);
  H5Aclose(attribute);
  return scales;
}

inline StoredDataset read_dataset(hid_t dataset) {
  StoredDataset stored;
  const hid_t space = H5Dget_space(dataset);
  const hid_t type = H5Dget_type(dataset);
  stored.extents.resize(static_cast<size_t>(H5Sget_simple_extent_ndims(space)));
  H5Sget_simple_extent_dims(space, stored.extents.data(), nullptr);
  stored.bytes.resize(static_cast<size_t>(H5Sget_simple_extent_npoints(space)) * H5Tget_size(type));
  H5Dread(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, stored.bytes.data());
  stored.scales = scales_of(dataset, stored.extents.size());
  H5Tclose(type);
  H5Sclose(space);
  return stored;
}

inline herr_t collect(hid_t root, const char* name, const H5O_info_t* info, void* contents) {
  if (info->type == H5O_TYPE_DATASET) {
    const hid_t dataset = H5Dopen2(root, name, H5P_DEFAULT);
    static_cast<std::map<std::string, StoredDataset>*>(contents)->emplace(name,
                                                                          read_dataset(dataset));
    H5Dclose(dataset);
  }
  return 0;
}

}  // namespace detail

/// Every data set of a file by its path, without a leading slash.
inline std::map<std::string, StoredDataset> stored_datasets(const std::filesystem::path& file) {
  const hid_t opened = H5Fopen(file.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  if (opened < 0) {
    throw std::runtime_error(file.string() + " is no plain HDF5 file");
  }
  std::map<std::string, StoredDataset> contents;
  H5Ovisit2(opened, H5_INDEX_NAME, H5_ITER_INC, detail::collect, &contents, H5O_INFO_BASIC);
  H5Fclose(opened);
  return contents;
}

/// The bytes of every data set but the wall times, which no two runs share.
inline std::map<std::string, std::string> reproducible_contents(const std::filesystem::path& file) {
  std::map<std::string, std::string> bytes;
  for (const auto& [name, dataset] : stored_datasets(file)) {
    if (std::filesystem::path(name).filename() != "seconds") {
      bytes[name] = dataset.bytes;
    }
  }
  return bytes;
}

}  // namespace gradist::test
