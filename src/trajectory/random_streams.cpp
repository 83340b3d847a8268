#include "trajectory/random_streams.h"

#include "data/keyed_random.h"

#include <ATen/CPUGeneratorImpl.h>

namespace gradist {

uint64_t stream_seed(uint64_t seed, RandomStream stream) {
  return splitmix64(splitmix64(seed) + static_cast<uint64_t>(stream));
}

at::Generator stream_generator(uint64_t seed, RandomStream stream) {
  return at::detail::createCPUGenerator(stream_seed(seed, stream));
}

}  // namespace gradist
