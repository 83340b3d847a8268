#pragma once

#include "storage/hdf5_handle.h"

#include <H5Tpublic.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gradist::detail {

// In the file's own byte order, whatever the machine's.
inline hid_t file_type(double) { return H5T_IEEE_F64LE; }
inline hid_t file_type(int64_t) { return H5T_STD_I64LE; }
inline hid_t file_type(int32_t) { return H5T_STD_I32LE; }
inline hid_t file_type(uint64_t) { return H5T_STD_U64LE; }
inline hid_t file_type(uint8_t) { return H5T_STD_U8LE; }
inline hid_t memory_type(double) { return H5T_NATIVE_DOUBLE; }
inline hid_t memory_type(int64_t) { return H5T_NATIVE_INT64; }
inline hid_t memory_type(int32_t) { return H5T_NATIVE_INT32; }
inline hid_t memory_type(uint64_t) { return H5T_NATIVE_UINT64; }
inline hid_t memory_type(uint8_t) { return H5T_NATIVE_UINT8; }

/// Creates what traces and sweeps consist of; every failure names the file. Real numbers that were
/// never written read as NaN, whole ones as 0. No time of creation is kept, so the same contents
/// are the same bytes.
class Hdf5Maker {
 public:
  explicit Hdf5Maker(const Hdf5Check& check) : check_(check) {}

  /// A new file; an existing one is refused.
  Hdf5Handle file(const std::string& path) const;

  /// Groups list their members in the order in which they were made.
  Hdf5Handle group(hid_t parent, const std::string& name) const;

  void attribute(hid_t object, const char* name, int64_t value) const;
  void attribute(hid_t object, const char* name, const std::string& text) const;

  /// An empty dataset of current extents `extents` that may grow to `limits`, a chunk of `chunk`.
  template <class Number>
  Hdf5Handle dataset(hid_t group, const std::string& name, const std::vector<hsize_t>& extents,
                     const std::vector<hsize_t>& limits, const std::vector<hsize_t>& chunk) const;

  /// A dataset of fixed extents whose place in the file is taken at once: writing into it later
  /// changes nothing but its numbers.
  template <class Number>
  Hdf5Handle block(hid_t group, const std::string& name, const std::vector<hsize_t>& extents) const;

  /// A dimension scale with these values, of fixed length.
  template <class Number>
  Hdf5Handle scale(hid_t group, const std::string& name, const std::vector<Number>& values) const;
  Hdf5Handle scale(hid_t group, const std::string& name,
                   const std::vector<std::string>& values) const;

 private:
  Hdf5Handle text_type() const;

  const Hdf5Check& check_;
};

}  // namespace gradist::detail
