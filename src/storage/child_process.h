#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace gradist::detail {

/// Work that may crash, done by a child process whose only way out is a pipe. The child is a copy
/// of this process with one thread, so `work` must start none and take no lock that others may
/// hold; it says nothing on standard error and leaves by _exit, so that nothing of the parent is
/// touched.
class ChildProcess {
 public:
  /// Sends bytes to the parent.
  using Write = std::function<void(const void*, size_t)>;

  /// Starts `work` in the child. It must not throw.
  explicit ChildProcess(const std::function<void(const Write&)>& work);

  /// Kills the child where it has not ended.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// Fills the span with what the child wrote; fewer bytes only at the end.
  size_t read(std::span<uint8_t> into);

  /// Waits for the end: "" if the child left as it should, else how it died: "segmentation fault".
  std::string wait();

 private:
  pid_t child_ = -1;
  int pipe_ = -1;
};

/// In the child: the work until the next call of this may take that much processor time at most.
void limit_processor_time(int64_t seconds);

}  // namespace gradist::detail
