#pragma once

#include "preset.h"

#include <vector>

namespace gradist {

/// The experiments of the papers that `gradist run` reproduces, each at paper scale and `:small`,
/// which ends in minutes on two cores. docs/experiments.md tells what to expect, and what is not
/// covered.
const std::vector<Preset>& presets();

}  // namespace gradist
