#include "trajectory/random_streams.h"

#include <ATen/CPUGeneratorImpl.h>

namespace gradist {

namespace {

uint64_t splitmix64(uint64_t state) {
  state += 0x9e3779b97f4a7c15ULL;
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ULL;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebULL;
  return state ^ (state >> 31);
}

}  // namespace

uint64_t stream_seed(uint64_t seed, RandomStream stream) {
  return splitmix64(splitmix64(seed) + static_cast<uint64_t>(stream));
}

at::Generator stream_generator(uint64_t seed, RandomStream stream) {
  return at::detail::createCPUGenerator(stream_seed(seed, stream));
}

}  // namespace gradist
