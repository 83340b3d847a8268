#pragma once

#include "gradients/gradient_batch.h"

#include <cstdint>

namespace gradist {

/// FNV-1a over the parameters' bytes, eight at a time: two trajectories are the same where their
/// hashes are.
uint64_t parameter_hash(const ParameterList& parameters);

}  // namespace gradist
