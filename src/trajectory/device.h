#pragma once

#include <cstdint>
#include <string>

namespace gradist {

/// Refuses a device ("cpu", "cuda") that this torch cannot use. The program does not link CUDA, so
/// the library of a CUDA build of torch is loaded here, the first time "cuda" is asked for.
void check_device(const std::string& device);

/// Refuses more threads than this machine's CPUs could ever use.
void check_threads(int64_t threads);

/// CPU threads for steps of so many floating-point operations: one for small ones, where waking a
/// second costs more than it saves, else as many as torch would take.
int64_t threads_for(double flops_per_step);

/// While it lives, torch uses this many threads in an operation.
class ThreadScope {
 public:
  explicit ThreadScope(int64_t threads);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

}  // namespace gradist
