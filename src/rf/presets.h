#pragma once

#include "preset.h"

#include <vector>

namespace gradist::rf {

/// The experiments of [Faghri20] section 4.2 that `gradist rf` reproduces, each at paper scale and
/// `:small`.
const std::vector<Preset>& presets();

}  // namespace gradist::rf
