#pragma once

#include "options.h"

#include <string>
#include <vector>

namespace gradist {

/// Options under a name: one experiment of a paper.
struct Preset {
  std::string name;       ///< "faghri-mnist-mlp"; at small scale "faghri-mnist-mlp:small"
  std::string source;     ///< what it reproduces: paper, figure or table
  std::string data;       ///< what it needs
  std::string time;       ///< on two CPU cores
  std::string overrides;  ///< the options it changes, in TOML
  std::string small;      ///< what the small one changes on top; else empty
};

/// An experiment in both scales, as tables of presets are written.
struct Experiment {
  const char* name;
  const char* source;
  const char* data;  ///< at paper scale
  const char* time;  ///< at paper scale
  const char* small_data;
  const char* small_time;
  std::vector<const char*> overrides;  ///< TOML; its parts have no option in common
  std::vector<const char*> small;      ///< likewise; these win
};

/// Each experiment as two presets: the paper's scale, then the small one.
std::vector<Preset> presets_of(const std::vector<Experiment>& experiments);

/// The preset of this name; any other is an error that lists the names of paper scale.
const Preset& find_preset(const std::vector<Preset>& presets, const std::string& name,
                          const OptionOrigin& origin);

/// Sets the options of a preset and returns their names.
std::vector<std::string> set_from_preset(OptionList& options, const Preset& preset);

}  // namespace gradist
