#include "trajectory/log_points.h"

#include <algorithm>
#include <set>

namespace gradist {

std::vector<int64_t> log_points(const RunOptions& options) {
  std::set<int64_t> points = {options.iterations};
  if (options.log_at.empty()) {
    for (int64_t t = 0; t < options.iterations; t += options.log_every) {
      points.insert(t);
    }
    return {points.begin(), points.end()};
  }
  const int64_t interval = options.refresh_every;
  for (int64_t begin = 0; begin < options.iterations; begin += options.log_at_every * interval) {
    for (const double fraction : options.log_at) {
      const auto after = static_cast<int64_t>(fraction * static_cast<double>(interval));
      points.insert(begin + std::min(after, interval - 1));
    }
  }
  points.erase(points.upper_bound(options.iterations), points.end());
  return {points.begin(), points.end()};
}

bool follows_drift(const RunOptions& options, int64_t iteration) {
  return options.drift_every > 0 && iteration % options.refresh_every != 0 &&
         iteration / options.refresh_every % options.drift_every == 0;
}

}  // namespace gradist
