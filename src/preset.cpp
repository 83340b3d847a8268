#include "preset.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace gradist {
namespace {

std::string joined(const std::vector<const char*>& parts) {
  std::string document;
  for (const char* part : parts) document += part;
  return document;
}

}  // namespace

std::vector<Preset> presets_of(const std::vector<Experiment>& experiments) {
  std::vector<Preset> presets;
  for (const Experiment& each : experiments) {
    Preset preset{each.name, each.source, each.data, each.time, joined(each.overrides), ""};
    presets.push_back(preset);
    preset.name += ":small";
    preset.data = each.small_data;
    preset.time = each.small_time;
    preset.small = joined(each.small);
    presets.push_back(preset);
  }
  return presets;
}

const Preset& find_preset(const std::vector<Preset>& presets, const std::string& name,
                          const OptionOrigin& origin) {
  const auto found = std::ranges::find(presets, name, &Preset::name);
  if (found != presets.end()) return *found;
  std::string names;
  for (const Preset& preset : presets) {
    if (preset.small.empty()) names += (names.empty() ? "" : "|") + preset.name;
  }
  TORCH_CHECK_VALUE(false, origin, "preset = ", name, ", must be one of ", names,
                    ", each also with :small");
}

std::vector<std::string> set_from_preset(OptionList& options, const Preset& preset) {
  auto names = set_from_toml(options, preset.overrides, "preset " + preset.name);
  const auto more = set_from_toml(options, preset.small, "preset " + preset.name);
  names.insert(names.end(), more.begin(), more.end());
  return names;
}

}  // namespace gradist
