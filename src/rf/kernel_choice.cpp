#include "rf/kernels.h"

#include <cstdlib>
#include <vector>

namespace gradist::rf::detail {

#ifdef GRADIST_RF_X86
extern const Kernels kKernelsV4, kKernelsV3, kKernelsV2;
#else
extern const Kernels kKernelsPlain;
#endif

namespace {

const std::vector<const Kernels*>& found() {
  static const std::vector<const Kernels*> levels = [] {
    std::vector<const Kernels*> list;
#ifdef GRADIST_RF_X86
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
                    __builtin_cpu_supports("avx512dq");
    if (v4) {
      list.push_back(&kKernelsV4);
    }
    if (v3) {
      list.push_back(&kKernelsV3);
    }
    list.push_back(&kKernelsV2);
#else
    list.push_back(&kKernelsPlain);
#endif
    return list;
  }();
  return levels;
}

}  // namespace

const Kernels& kernels() { return *found().front(); }

const Kernels* const* available_kernels(int64_t& count) {
  count = static_cast<int64_t>(found().size());
  return found().data();
}

}  // namespace gradist::rf::detail
