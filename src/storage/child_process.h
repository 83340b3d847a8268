#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

namespace gradist::detail {

/// Work that may crash, done by a child process whose only way out is a socket. The child is a copy
/// of this process with one thread, so `work` must start none and take no lock that others may
/// hold; it has none of the parent's open files, says nothing on standard error and leaves by
/// _exit, so that nothing of the parent is touched.
class ChildProcess {
 public:
  /// The child's way to its parent.
  class Parent {
   public:
    explicit Parent(int socket) : socket_(socket) {}

    /// Sends bytes; the child leaves where nobody listens any more.
    void write(const void* bytes, size_t count) const;

    /// Fills the span with what the parent wrote; fewer bytes only where the parent is gone.
    size_t read(std::span<uint8_t> into) const;

   private:
    int socket_;
  };

  /// Starts `work` in the child. It must not throw.
  explicit ChildProcess(const std::function<void(const Parent&)>& work);

  /// Kills the child where it has not ended.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// Fills the span with what the child wrote; fewer bytes only at the end.
  size_t read(std::span<uint8_t> into);

  /// Sends bytes to the child; false where it has ended.
  bool write(const void* bytes, size_t count);

  /// Waits for the end: "" if the child left as it should, else how it died: "segmentation fault".
  /// It may be asked again.
  std::string wait();

 private:
  pid_t child_ = -1;
  int socket_ = -1;
  std::string end_;
};

/// In the child: it stays for requests until its parent closes the socket. Ctrl-C in a terminal,
/// which goes to both, is the parent's to answer, and the thread that started the child may end.
void stay_for_requests();

/// In the child: the work until the next call of this may take that much processor time at most.
void limit_processor_time(int64_t seconds);

/// In the child: until the next call of this it may take that many bytes more than it has now, as
/// address space. Where that is reserved beforehand (AddressSanitizer), it is no limit.
void limit_memory(uint64_t bytes);

}  // namespace gradist::detail
