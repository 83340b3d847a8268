#include "gc/allocation.h"

#include "choice.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <limits>
#include <numeric>

namespace gradist {
namespace {

/// What a further draw from a cluster is worth; the largest gets it.
double need(Allocation allocation, double size, double scatter, double draws_here, double share) {
  switch (allocation) {
    case Allocation::kProportional:
      return size * share - draws_here;
    case Allocation::kEqual:
      return -draws_here;
    case Allocation::kNeyman:
      return scatter / (draws_here * (draws_here + 1));
  }
  TORCH_INTERNAL_ASSERT(false);
}

}  // namespace

const std::vector<std::string>& allocation_names() {
  static const std::vector<std::string> names = {"proportional", "equal", "neyman"};
  return names;
}

Allocation allocation_by_name(const std::string& name) {
  return choice_by_name<Allocation>("allocation", allocation_names(), name);
}

std::vector<int64_t> allocate(Allocation allocation, const std::vector<int64_t>& sizes,
                              const std::vector<double>& scatter, int64_t draws, bool replacement) {
  const auto examples = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  const auto nonempty = std::count_if(sizes.begin(), sizes.end(), [](int64_t n) { return n > 0; });
  TORCH_CHECK_VALUE(draws >= nonempty, "draws = ", draws, ": must be >= the number of clusters, ",
                    nonempty, ", so that each is drawn from");
  TORCH_CHECK_VALUE(replacement || draws <= examples, "draws = ", draws,
                    ": must be <= the number of examples, ", examples, ", without replacement");
  TORCH_CHECK_VALUE(allocation != Allocation::kNeyman || scatter.size() == sizes.size(),
                    "allocation = neyman: needs the variances within clusters, which are known of "
                    "clusters made from gradients, not of one's own");
  std::vector<int64_t> result(sizes.size());
  std::transform(sizes.begin(), sizes.end(), result.begin(),
                 [](int64_t size) { return size > 0 ? 1 : 0; });
  const double share = static_cast<double>(draws) / static_cast<double>(examples);
  const auto worth = [&](size_t k) {
    const auto size = static_cast<double>(sizes[k]);
    if (sizes[k] == 0 || (!replacement && result[k] == sizes[k])) {
      return -std::numeric_limits<double>::infinity();
    }
    // Without replacement scatter / b (N - b) / (N - 1) falls by N / (N - 1) as much.
    const double factor = replacement || sizes[k] == 1 ? 1 : size / (size - 1);
    return need(allocation, size, scatter.empty() ? 0 : factor * scatter[k],
                static_cast<double>(result[k]), share);
  };
  for (auto rest = draws - nonempty; rest > 0; --rest) {
    size_t neediest = 0;
    for (size_t k = 1; k < sizes.size(); ++k) {
      if (worth(k) > worth(neediest)) {
        neediest = k;
      }
    }
    ++result[neediest];
  }
  return result;
}

}  // namespace gradist
