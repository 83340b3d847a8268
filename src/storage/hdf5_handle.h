#pragma once

#include <H5Epublic.h>
#include <H5Ipublic.h>

#include <cstdint>
#include <string>

/// The little of HDF5's C interface that writers and readers share. Not installed: HDF5 stays in
/// .cpp files.
namespace gradist::detail {

/// An HDF5 identifier, closed at the end of its life.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);

  Hdf5Handle() = default;
  Hdf5Handle(hid_t id, Close close) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept;
  Hdf5Handle& operator=(Hdf5Handle&& other) noexcept;
  ~Hdf5Handle() { reset(); }

  void reset();
  explicit operator bool() const { return id_ >= 0; }
  operator hid_t() const { return id_; }  // NOLINT: it stands for the identifier everywhere

 private:
  hid_t id_ = -1;
  Close close_ = nullptr;
};

/// HDF5's innermost reason of the last failure: of "unable to open file: name = ..., error message
/// = 'No space left on device', ..." the quoted words.
std::string innermost_hdf5_reason();

/// While it lives, HDF5 prints nothing: its errors become exceptions.
class QuietHdf5 {
 public:
  QuietHdf5();
  ~QuietHdf5();
  QuietHdf5(const QuietHdf5&) = delete;
  QuietHdf5& operator=(const QuietHdf5&) = delete;

 private:
  H5E_auto2_t function_ = nullptr;
  void* data_ = nullptr;
};

/// Turns a negative status into an error that names the file and says HDF5's own reason.
class Hdf5Check {
 public:
  /// `rule` ends the error: "must be a writable place".
  Hdf5Check(std::string file, std::string rule) : file_(std::move(file)), rule_(std::move(rule)) {}

  /// Passes a good status or identifier on.
  hid_t operator()(hid_t status) const;

  Hdf5Handle handle(hid_t id, Hdf5Handle::Close close) const { return {(*this)(id), close}; }

 private:
  std::string file_, rule_;
};

}  // namespace gradist::detail
