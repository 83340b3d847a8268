#include "storage/hdf5_maker.h"

#include <hdf5.h>
#include <hdf5_hl.h>

#include <algorithm>
#include <limits>

namespace gradist::detail {

namespace {

/// What stands where nothing was written.
double fill_value(double) { return std::numeric_limits<double>::quiet_NaN(); }
template <class Number>
Number fill_value(Number) {
  return 0;
}

template <class Number>
Hdf5Handle creation_of(const Hdf5Check& check) {
  auto creation = check.handle(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  const Number fill = fill_value(Number());
  check(H5Pset_fill_value(creation, memory_type(Number()), &fill));
  check(H5Pset_obj_track_times(creation, false));
  return creation;
}

}  // namespace

Hdf5Handle Hdf5Maker::file(const std::string& path) const {
  const auto access = check_.handle(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  check_(H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST));
  const auto creation = check_.handle(H5Pcreate(H5P_FILE_CREATE), H5Pclose);
  check_(H5Pset_link_creation_order(creation, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED));
  check_(H5Pset_obj_track_times(creation, false));
  return check_.handle(H5Fcreate(path.c_str(), H5F_ACC_EXCL, creation, access), H5Fclose);
}

Hdf5Handle Hdf5Maker::group(hid_t parent, const std::string& name) const {
  const auto creation = check_.handle(H5Pcreate(H5P_GROUP_CREATE), H5Pclose);
  check_(H5Pset_link_creation_order(creation, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED));
  check_(H5Pset_obj_track_times(creation, false));
  return check_.handle(H5Gcreate2(parent, name.c_str(), H5P_DEFAULT, creation, H5P_DEFAULT),
                       H5Gclose);
}

void Hdf5Maker::attribute(hid_t object, const char* name, int64_t value) const {
  const auto space = check_.handle(H5Screate(H5S_SCALAR), H5Sclose);
  const auto attribute = check_.handle(
      H5Acreate2(object, name, H5T_STD_I64LE, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  check_(H5Awrite(attribute, H5T_NATIVE_INT64, &value));
}

void Hdf5Maker::attribute(hid_t object, const char* name, const std::string& text) const {
  const auto type = text_type();
  const auto space = check_.handle(H5Screate(H5S_SCALAR), H5Sclose);
  const auto attribute =
      check_.handle(H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  const char* pointer = text.c_str();
  check_(H5Awrite(attribute, type, &pointer));
}

template <class Number>
Hdf5Handle Hdf5Maker::dataset(hid_t group, const std::string& name,
                              const std::vector<hsize_t>& extents,
                              const std::vector<hsize_t>& limits,
                              const std::vector<hsize_t>& chunk) const {
  const auto rank = static_cast<int>(extents.size());
  const auto space = check_.handle(H5Screate_simple(rank, extents.data(), limits.data()), H5Sclose);
  const auto creation = creation_of<Number>(check_);
  check_(H5Pset_chunk(creation, rank, chunk.data()));
  return check_.handle(H5Dcreate2(group, name.c_str(), file_type(Number()), space, H5P_DEFAULT,
                                  creation, H5P_DEFAULT),
                       H5Dclose);
}

template <class Number>
Hdf5Handle Hdf5Maker::block(hid_t group, const std::string& name,
                            const std::vector<hsize_t>& extents) const {
  const auto rank = static_cast<int>(extents.size());
  const auto space = check_.handle(H5Screate_simple(rank, extents.data(), nullptr), H5Sclose);
  const auto creation = creation_of<Number>(check_);
  check_(H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY));
  return check_.handle(H5Dcreate2(group, name.c_str(), file_type(Number()), space, H5P_DEFAULT,
                                  creation, H5P_DEFAULT),
                       H5Dclose);
}

template <class Number>
Hdf5Handle Hdf5Maker::scale(hid_t group, const std::string& name,
                            const std::vector<Number>& values) const {
  const std::vector<hsize_t> extents = {values.size()};
  auto made = dataset<Number>(group, name, extents, extents, {std::max<hsize_t>(values.size(), 1)});
  check_(H5Dwrite(made, memory_type(Number()), H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()));
  check_(H5DSset_scale(made, name.c_str()));
  return made;
}

Hdf5Handle Hdf5Maker::scale(hid_t group, const std::string& name,
                            const std::vector<std::string>& values) const {
  const auto type = text_type();
  const hsize_t count = values.size();
  const auto space = check_.handle(H5Screate_simple(1, &count, nullptr), H5Sclose);
  const auto creation = check_.handle(H5Pcreate(H5P_DATASET_CREATE), H5Pclose);
  check_(H5Pset_obj_track_times(creation, false));
  auto made = check_.handle(
      H5Dcreate2(group, name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT), H5Dclose);
  std::vector<const char*> pointers(values.size());
  std::transform(values.begin(), values.end(), pointers.begin(),
                 [](const std::string& text) { return text.c_str(); });
  check_(H5Dwrite(made, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()));
  check_(H5DSset_scale(made, name.c_str()));
  return made;
}

Hdf5Handle Hdf5Maker::text_type() const {
  auto type = check_.handle(H5Tcopy(H5T_C_S1), H5Tclose);
  check_(H5Tset_size(type, H5T_VARIABLE));
  check_(H5Tset_cset(type, H5T_CSET_UTF8));
  return type;
}

using Extents = std::vector<hsize_t>;
template Hdf5Handle Hdf5Maker::dataset<double>(hid_t, const std::string&, const Extents&,
                                               const Extents&, const Extents&) const;
template Hdf5Handle Hdf5Maker::dataset<int64_t>(hid_t, const std::string&, const Extents&,
                                                const Extents&, const Extents&) const;
template Hdf5Handle Hdf5Maker::dataset<int32_t>(hid_t, const std::string&, const Extents&,
                                                const Extents&, const Extents&) const;
template Hdf5Handle Hdf5Maker::dataset<uint64_t>(hid_t, const std::string&, const Extents&,
                                                 const Extents&, const Extents&) const;
template Hdf5Handle Hdf5Maker::block<double>(hid_t, const std::string&, const Extents&) const;
template Hdf5Handle Hdf5Maker::block<uint8_t>(hid_t, const std::string&, const Extents&) const;
template Hdf5Handle Hdf5Maker::scale<double>(hid_t, const std::string&,
                                             const std::vector<double>&) const;
template Hdf5Handle Hdf5Maker::scale<int64_t>(hid_t, const std::string&,
                                              const std::vector<int64_t>&) const;
template Hdf5Handle Hdf5Maker::scale<int32_t>(hid_t, const std::string&,
                                              const std::vector<int32_t>&) const;

}  // namespace gradist::detail
