#include "trajectory/device.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>

#include <algorithm>
#include <thread>

namespace gradist {

namespace {

// An estimate: well above a step of the default run (4 MFLOP), where waking a second thread costs
// more than it saves, and well below one of MNIST's MLP (1.4 GFLOP).
constexpr double kSmallStep = 5e7;

// OpenMP's threads wait for each other in loops: with 100 for a CPU a step takes minutes.
constexpr int64_t kThreadsOfACpu = 8;

bool has_cuda() {
  if (!at::hasCUDA()) {
    dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
  }
  return at::hasCUDA() && at::detail::getCUDAHooks().deviceCount() > 0;
}

}  // namespace

void check_device(const std::string& device) {
  TORCH_CHECK_VALUE(
      device != "cuda" || has_cuda(),
      "device = cuda, must be cpu where this torch has no CUDA or finds no CUDA device");
}

void check_threads(int64_t threads) {
  const int64_t limit = kThreadsOfACpu * std::max(1U, std::thread::hardware_concurrency());
  TORCH_CHECK_VALUE(threads <= limit, "threads = ", threads, ", must be <= ", limit, ", ",
                    kThreadsOfACpu, " for each CPU of this machine");
}

int64_t threads_for(double flops_per_step) {
  return flops_per_step < kSmallStep ? 1 : at::get_num_threads();
}

ThreadScope::ThreadScope(int64_t threads) : before_(at::get_num_threads()) {
  at::set_num_threads(static_cast<int>(threads));
}

ThreadScope::~ThreadScope() { at::set_num_threads(before_); }

}  // namespace gradist
