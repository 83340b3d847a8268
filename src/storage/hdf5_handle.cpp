#include "storage/hdf5_handle.h"

#include <H5public.h>
#include <c10/util/Exception.h>

#include <utility>

namespace gradist::detail {

namespace {

// HDF5's own clean-up at exit crashes on a file that could not be written to its end (a full disk);
// we close what we open.
[[maybe_unused]] const herr_t kNoCleanUpAtExit = H5dont_atexit();

}  // namespace

std::string innermost_hdf5_reason() {
  std::string reason;
  const auto keep_first = [](unsigned level, const H5E_error2_t* error, void* text) -> herr_t {
    if (level == 0 && error->desc != nullptr) {
      *static_cast<std::string*>(text) = error->desc;
    }
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &reason);
  const std::string opening = "error message = '";
  const size_t begin = reason.find(opening);
  if (begin != std::string::npos) {
    reason = reason.substr(begin + opening.size());
    reason = reason.substr(0, reason.find('\''));
  }
  return reason.empty() ? "unknown HDF5 error" : reason;
}

Hdf5Handle::Hdf5Handle(Hdf5Handle&& other) noexcept
    : id_(std::exchange(other.id_, -1)), close_(other.close_) {}

Hdf5Handle& Hdf5Handle::operator=(Hdf5Handle&& other) noexcept {
  if (this != &other) {
    reset();
    id_ = std::exchange(other.id_, -1);
    close_ = other.close_;
  }
  return *this;
}

void Hdf5Handle::reset() {
  if (id_ >= 0) {
    close_(std::exchange(id_, -1));
  }
}

QuietHdf5::QuietHdf5() {
  H5Eget_auto2(H5E_DEFAULT, &function_, &data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

QuietHdf5::~QuietHdf5() { H5Eset_auto2(H5E_DEFAULT, function_, data_); }

hid_t Hdf5Check::operator()(hid_t status) const {
  TORCH_CHECK_VALUE(status >= 0, file_, ", ", rule_, ": ", innermost_hdf5_reason());
  return status;
}

}  // namespace gradist::detail
