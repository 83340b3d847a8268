#include "gradients/method_choice.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <limits>

#include <toml++/toml.h>

namespace gradist {
namespace {

/// Ways with more than this many times the fewest operations are not tried.
constexpr double kHopeless = 8;

/// Ways are timed in rounds: so many at least, and on until so many seconds went by, for on a
/// machine with other work a moment says little.
constexpr int kFewestRounds = 3, kMostRounds = 25;
constexpr double kEnoughSeconds = 0.03;

/// A way that takes this many times what the best took is not timed again.
constexpr double kTooSlow = 2;

using Clock = std::chrono::steady_clock;

double seconds(const std::function<void()>& run) {
  const auto start = Clock::now();
  run();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// The best times, round by round: whatever else the machine does only makes them longer.
std::vector<double> best_seconds(const std::vector<std::function<void()>>& ways) {
  for (const auto& run : ways) {
    run();  // the first time pays for memory and the libraries' own set-up
  }
  std::vector<double> best(ways.size(), std::numeric_limits<double>::infinity());
  double least = std::numeric_limits<double>::infinity(), spent = 0;
  for (int round = 0; round < kMostRounds && (round < kFewestRounds || spent < kEnoughSeconds);
       ++round) {
    for (size_t way = 0; way < ways.size(); ++way) {
      if (round > 0 && best[way] > kTooSlow * least) {
        continue;
      }
      const auto taken = seconds(ways[way]);
      spent += taken;
      best[way] = std::min(best[way], taken);
      least = std::min(least, taken);
    }
  }
  return best;
}

std::string milliseconds(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g ms", 1e3 * value);
  return text;
}

}  // namespace

void MethodChoices::finish(const at::Tensor& result) {
  if (const auto device = result.device(); !device.is_cpu()) {
    c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
  }
}

const MethodChoices::Trial& MethodChoices::fewest_operations(const std::vector<Trial>& ways) {
  return *std::min_element(ways.begin(), ways.end(), [](const auto& left, const auto& right) {
    return left.operations < right.operations;
  });
}

MethodChoices::Choice MethodChoices::fastest(const std::vector<Trial>& ways) {
  const auto fewest = fewest_operations(ways).operations;
  std::vector<std::string_view> names;
  std::vector<std::function<void()>> runs;
  for (const auto& way : ways) {
    if (way.operations <= kHopeless * fewest) {
      names.push_back(way.name);
      runs.push_back(way.run);
    }
  }
  const auto best = best_seconds(runs);
  std::string tried;
  for (size_t way = 0; way < names.size(); ++way) {
    tried += (tried.empty() ? "" : ", ") + std::string(names[way]) + " " + milliseconds(best[way]);
  }
  const auto fastest = std::min_element(best.begin(), best.end()) - best.begin();
  return {std::string(names[static_cast<size_t>(fastest)]), "measured: " + tried};
}

MethodChoices::Chosen MethodChoices::choose(const std::string& layer,
                                            const std::vector<Trial>& ways) {
  auto found = choices_.find(layer);
  if (found == choices_.end()) {
    const auto choice =
        measure_ && ways.size() > 1
            ? fastest(ways)
            : Choice{std::string(fewest_operations(ways).name), "fewest operations"};
    found = choices_.emplace(layer, choice).first;
  }
  const auto& choice = found->second;
  const auto way = std::find_if(ways.begin(), ways.end(),
                                [&](const auto& each) { return each.name == choice.way; });
  if (way == ways.end()) {
    std::string names;
    for (const auto& each : ways) {
      names += (names.empty() ? "'" : ", '") + std::string(each.name) + "'";
    }
    TORCH_CHECK_VALUE(false, "choices: '", layer, "' = '", choice.way, "', must be one of ", names);
  }
  return {static_cast<size_t>(way - ways.begin()), choice};
}

std::optional<std::string> MethodChoices::way(const std::string& what) const {
  const auto found = choices_.find(what);
  return found == choices_.end() ? std::nullopt : std::optional(found->second.way);
}

void MethodChoices::keep(const std::string& what, const std::string& way,
                         const std::string& reason) {
  choices_[what] = {way, reason};
}

void MethodChoices::read(const std::string& path) {
  toml::table table;
  try {
    table = toml::parse_file(path);
  } catch (const toml::parse_error& error) {
    TORCH_CHECK_VALUE(false, path, ": ", error.description(), ", must be a TOML table of choices");
  }
  const auto* entries = table["choices"].as_table();
  TORCH_CHECK_VALUE(entries != nullptr && table.size() == 1, path,
                    ": must hold one table, [choices], of \"layer\" = \"way\"");
  for (const auto& [layer, way] : *entries) {
    const auto name = way.value<std::string>();
    TORCH_CHECK_VALUE(name.has_value(), path, ": '", std::string(layer.str()),
                      "' is no text, must be the name of a way");
    choices_[std::string(layer.str())] = {*name, "from " + path};
  }
}

void MethodChoices::write(const std::string& path) const {
  toml::table entries;
  for (const auto& [layer, choice] : choices_) {
    entries.insert(layer, choice.way);
  }
  std::ofstream file(path);
  file << toml::table{{"choices", entries}} << "\n";
  file.flush();
  TORCH_CHECK_VALUE(file.good(), path, ": cannot be written");
}

}  // namespace gradist
