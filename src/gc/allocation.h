#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace gradist {

/// How b draws are divided among K < b clusters, in whole numbers b_k >= 1 for every non-empty one.
/// With K = b each gets one, whatever the rule.
enum class Allocation {
  kProportional,  ///< b_k ~ N_k, by largest remainders: never above the same draws without clusters
                  ///< where sizes divide evenly
  kEqual,         ///< b_k as equal as may be
  kNeyman,        ///< least variance, b_k ~ N_k sqrt(V_k) before rounding; V_k as of the clustering
};

/// proportional, equal, neyman.
const std::vector<std::string>& allocation_names();
Allocation allocation_by_name(const std::string& name);

/// b_k for clusters of N_k = `sizes` examples, sum b_k = draws; b_k <= N_k when `replacement` is
/// false. `scatter` [K] holds N_k^2 V_k, needed for Neyman's alone, whose whole numbers are the
/// best there are: the terms scatter_k / b_k are convex, so each further draw goes where it lowers
/// the variance most. Ties go to the first.
std::vector<int64_t> allocate(Allocation allocation, const std::vector<int64_t>& sizes,
                              const std::vector<double>& scatter, int64_t draws, bool replacement);

}  // namespace gradist
