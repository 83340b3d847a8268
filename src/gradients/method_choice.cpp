#include "gradients/method_choice.h"

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

/// How often a way is timed.
constexpr int kTimes = 3;

using Clock = std::chrono::steady_clock;

/// The best of a few times: whatever else the machine does only makes it slower. Once is enough
/// where that is twice as long as what is to be beaten.
double seconds(const std::function<NormsAndSum()>& compute, double to_beat) {
  compute();  // the first time pays for memory and the libraries' own set-up
  double best = std::numeric_limits<double>::infinity();
  for (int time = 0; time < kTimes && (time == 0 || best < 2 * to_beat); ++time) {
    const auto start = Clock::now();
    compute();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

std::string milliseconds(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g ms", 1e3 * value);
  return text;
}

const MethodChoices::Way& fewest_operations(const std::vector<MethodChoices::Way>& ways) {
  return *std::min_element(ways.begin(), ways.end(), [](const auto& left, const auto& right) {
    return left.operations < right.operations;
  });
}

/// Tries the ways.
MethodChoices::Choice fastest(const std::vector<MethodChoices::Way>& ways) {
  const auto fewest = fewest_operations(ways).operations;
  MethodChoices::Choice choice;
  std::string tried;
  double best = std::numeric_limits<double>::infinity();
  for (const auto& way : ways) {
    if (way.operations > kHopeless * fewest) {
      continue;
    }
    const auto taken = seconds(way.compute, best);
    tried += (tried.empty() ? "" : ", ") + way.name + " " + milliseconds(taken);
    if (choice.way.empty() || taken < best) {
      best = taken;
      choice.way = way.name;
    }
  }
  choice.reason = "measured: " + tried;
  return choice;
}

}  // namespace

const MethodChoices::Choice& MethodChoices::choose(const std::string& layer,
                                                   const std::vector<Way>& ways) {
  auto found = choices_.find(layer);
  if (found == choices_.end()) {
    const auto choice = measure_ && ways.size() > 1
                            ? fastest(ways)
                            : Choice{fewest_operations(ways).name, "fewest operations"};
    found = choices_.emplace(layer, choice).first;
  }
  return found->second;
}

NormsAndSum MethodChoices::compute(const std::string& layer, const std::vector<Way>& ways) {
  const auto& choice = choose(layer, ways);
  const auto way = std::find_if(ways.begin(), ways.end(),
                                [&](const auto& each) { return each.name == choice.way; });
  if (way == ways.end()) {
    std::string names;
    for (const auto& each : ways) {
      names += (names.empty() ? "'" : ", '") + each.name + "'";
    }
    TORCH_CHECK_VALUE(false, "choices: '", layer, "' = '", choice.way, "', must be one of ", names);
  }
  auto result = way->compute();
  result.reason = choice.way + " (" + choice.reason + ")";
  return result;
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
