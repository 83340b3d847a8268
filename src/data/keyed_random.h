#pragma once

#include <cstdint>

namespace gradist {

/// One round of splitmix64: 64 well mixed bits of any 64. [Steele14]
inline uint64_t splitmix64(uint64_t state) {
  state += 0x9e3779b97f4a7c15ULL;
  state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9ULL;
  state = (state ^ (state >> 27)) * 0x94d049bb133111ebULL;
  return state ^ (state >> 31);
}

/// Random bits that belong to an example rather than to a moment: a pure function of the run's
/// seed, the key (which pass, or which snapshot) and the example, whoever asks and how often.
inline uint64_t example_bits(uint64_t seed, uint64_t key, int64_t example) {
  return splitmix64(splitmix64(splitmix64(seed) + key) + static_cast<uint64_t>(example));
}

}  // namespace gradist
