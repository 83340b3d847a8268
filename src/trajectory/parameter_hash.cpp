#include "trajectory/parameter_hash.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstring>

namespace gradist {

uint64_t parameter_hash(const ParameterList& parameters) {
  uint64_t hash = 0xcbf29ce484222325ULL;
  for (const auto& parameter : parameters) {
    const at::Tensor values = parameter.detach().to(at::kCPU).contiguous();
    const auto* bytes = static_cast<const char*>(values.const_data_ptr());
    for (size_t begin = 0; begin < values.nbytes(); begin += sizeof(uint64_t)) {
      uint64_t word = 0;
      std::memcpy(&word, bytes + begin, std::min(sizeof word, values.nbytes() - begin));
      hash = (hash ^ word) * 0x100000001b3ULL;
    }
  }
  return hash;
}

}  // namespace gradist
