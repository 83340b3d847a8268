#pragma once

#include <cstdint>

namespace gradist {

/// What passes over the training set are for.
enum class Pass : uint64_t { kTraining = 1, kRefresh = 2, kMeasuring = 3, kDrift = 4 };

/// The key of a pass's random transforms and dropout masks, see augmentation.h.
///
/// Locked, it is the number of the last refresh: the snapshot and all that is done until the next
/// one see the same transform of an example [Defazio19]. Else every epoch of training, every
/// refresh and every measurement has transforms of its own, `number` counting them.
inline uint64_t transform_key(bool locked, int64_t refresh, Pass pass, int64_t number) {
  constexpr int kBitsOfNumber = 56;
  return locked ? static_cast<uint64_t>(refresh)
                : static_cast<uint64_t>(pass) << kBitsOfNumber | static_cast<uint64_t>(number);
}

}  // namespace gradist
