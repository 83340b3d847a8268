#include "rf/presets.h"

namespace gradist::rf {
namespace {

constexpr const char* kNothing = "none, it is drawn";

/// The defaults are the paper's grid, so that a preset names only what a figure shows.
constexpr const char* kDuplicates = R"(
lr = [0.01]
d-in = [100]
duplicates = [0.1, 0.5, 0.9]
)";

constexpr const char* kProtocol = R"(
protocol = "faghri"
draws = 50
)";

constexpr const char* kSmall = R"(
n = [100, 316, 1000]
d-in = [100]
h-teacher = [100]
seeds = [0]
iterations = 2000
refresh-every = 400
)";

constexpr const char* kSmallDuplicates = R"(
n = [100, 316, 1000]
h-teacher = [100]
seeds = [0]
iterations = 2000
refresh-every = 400
)";

std::vector<Experiment> experiments() {
  return {
      {"faghri-rf",
       "[Faghri20] Figs. 4, 5, 9: average and normalized variance over the overparametrization",
       kNothing,
       "3 min",
       kNothing,
       "2 s",
       {},
       {kSmall}},
      {"faghri-rf-protocol",
       "[Faghri20] Fig. 5 with the normalized variance as the paper computed it",
       kNothing,
       "~6 min",
       kNothing,
       "2 s",
       {kProtocol},
       {kSmall}},
      {"faghri-rf-duplicates",
       "[Faghri20] Fig. 8: five points repeated to 10, 50 and 90 % of the training set",
       kNothing,
       "~1 min",
       kNothing,
       "2 s",
       {kDuplicates},
       {kSmallDuplicates}},
  };
}

}  // namespace

const std::vector<Preset>& presets() {
  static const auto table = presets_of(experiments());
  return table;
}

}  // namespace gradist::rf
