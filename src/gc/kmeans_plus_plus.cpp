#include "gc/kmeans_plus_plus.h"

#include <ATen/ops/rand.h>

#include <algorithm>
#include <limits>

namespace gradist {

std::vector<int64_t> kmeans_plus_plus(const at::Tensor& gram, int64_t clusters,
                                      at::Generator& generator) {
  const auto examples = gram.size(0);
  const auto products = gram.accessor<double, 2>();
  std::vector<double> distance(static_cast<size_t>(examples),
                               std::numeric_limits<double>::infinity());
  std::vector<bool> picked(static_cast<size_t>(examples), false);
  std::vector<int64_t> picks;
  const auto draws = at::rand({clusters}, generator, at::TensorOptions().dtype(at::kDouble));
  for (int64_t k = 0; k < clusters; ++k) {
    const auto uniform = draws[k].item<double>();
    double total = 0;
    if (k > 0) {
      for (int64_t i = 0; i < examples; ++i) {
        total += distance[static_cast<size_t>(i)];
      }
    }
    // Rounding and exhausted distances fall back to the first example that is still free.
    auto next = std::find(picked.begin(), picked.end(), false) - picked.begin();
    if (k == 0) {
      next = static_cast<int64_t>(uniform * static_cast<double>(examples));
    } else if (total > 0) {
      double running = 0;
      for (int64_t i = 0; i < examples; ++i) {
        running += distance[static_cast<size_t>(i)];
        if (running >= uniform * total && !picked[static_cast<size_t>(i)]) {
          next = i;
          break;
        }
      }
    }
    picks.push_back(next);
    picked[static_cast<size_t>(next)] = true;
    for (int64_t i = 0; i < examples; ++i) {
      const auto to_next =
          std::max(0.0, products[i][i] + products[next][next] - 2 * products[i][next]);
      auto& nearest = distance[static_cast<size_t>(i)];
      nearest = picked[static_cast<size_t>(i)] ? 0 : std::min(nearest, to_next);
    }
  }
  return picks;
}

}  // namespace gradist
