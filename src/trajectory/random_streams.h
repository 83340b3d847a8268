#pragma once

#include <ATen/core/Generator.h>

#include <cstdint>

namespace gradist {

/// What the random numbers of a run are for; each purpose has a stream of its own.
enum class RandomStream : uint64_t {
  kData = 1,
  kInitialisation = 2,
  kTraining = 3,
  kMeasuring = 4,
  kTransforms = 5,  ///< augmentation
  kDropout = 6,
  kNoise = 16
};

/// The seed of one stream of a run: splitmix64 of the run's seed and the stream's number, so that
/// seeds 0, 1, 2, ... give streams that have nothing in common. [Steele14]
uint64_t stream_seed(uint64_t seed, RandomStream stream);

/// A CPU generator that starts at stream_seed().
at::Generator stream_generator(uint64_t seed, RandomStream stream);

}  // namespace gradist
