#include "gradients/amx.h"

#ifdef GRADIST_AMX
#include <ATen/cpu/Utils.h>
#include <cpuid.h>
#endif

namespace gradist::detail {

bool has_amx() {
#ifdef GRADIST_AMX
  static const bool found = [] {
    constexpr unsigned kLeaf = 7, kBfloat16 = 1U << 22, kTiles = 1U << 24;
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __builtin_cpu_supports("x86-64-v4") != 0 &&
           __get_cpuid_count(kLeaf, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & kBfloat16) != 0 &&
           (edx & kTiles) != 0 && at::cpu::init_amx();
  }();
  return found;
#else
  return false;
#endif
}

}  // namespace gradist::detail
