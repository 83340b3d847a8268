#include "gc/lloyd.h"

#include "gc/guard.h"
#include "gc/rank1_centers.h"
#include "gradients/visit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

namespace gradist {
namespace {

/// Entries of one matrix of distances [B, K]: 128 MiB in float64.
constexpr int64_t kMaxDistances = int64_t{1} << 24;

/// k-means++ looks at this many examples a cluster, and at no fewer than kMinSeeds in all.
constexpr int64_t kSeedsPerCluster = 8;
constexpr int64_t kMinSeeds = 1024;

/// A cluster smaller than N / (kSmallCluster K) is refilled by a split.
constexpr int64_t kSmallCluster = 16;

/// Picks K of m examples by k-means++: each next one with probability proportional to its squared
/// distance from the nearest one picked. `gram` [m, m] float64 holds inner products. Copies of
/// picked examples come last.
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

/// One run of Lloyd's alternation over a source.
class Lloyd {
 public:
  Lloyd(GradientSource& source, const LloydOptions& options, int64_t* evaluations)
      : source_(source),
        options_(options),
        evaluations_(evaluations),
        chunk_(std::min(chunk_size(source, options.max_memory),
                        std::max<int64_t>(1, kMaxDistances / options.clusters))) {}

  Clustering run(at::Generator& generator) {
    auto centers = start(generator);
    auto state = assign(centers, nullptr);
    std::vector<double> history{state.objective()};
    auto best = state.assignments.clone();
    auto lowest = history.back();
    for (int64_t iteration = 1; iteration < options_.iterations; ++iteration) {
      split_smallest(state);
      auto next = assign(state.centers, &state);
      history.push_back(next.objective());
      if (history.back() < lowest) {
        lowest = history.back();
        best = next.assignments.clone();
      }
      state = std::move(next);
    }
    Clustering result(best, options_.clusters);
    result.history = std::move(history);
    return result;
  }

  /// One A and U step from a partition: what the guard takes.
  Clustering step(const Clustering& clustering) {
    State state;
    state.assignments = clustering.assignments();
    state.sizes = clustering.sizes();
    state.centers = centers_of(at::arange(clustering.examples(), at::kLong), state.assignments);
    return Clustering(assign(state.centers, &state).assignments, options_.clusters);
  }

 private:
  struct State {
    at::Tensor assignments;  ///< [N] int64
    at::Tensor distances;    ///< [N] float64, squared, to the center the example was assigned to
    std::vector<int64_t> sizes;  ///< N_k
    std::vector<double> sse;     ///< sum of `distances` over each cluster
    Rank1Centers centers;        ///< after the U step

    double objective() const {
      double total = 0;
      for (size_t k = 0; k < sizes.size(); ++k) {
        total += static_cast<double>(sizes[k]) * sse[k];
      }
      return total;
    }
  };

  GradientBatch gradients(const at::Tensor& indices) {
    if (evaluations_ != nullptr) {
      *evaluations_ += indices.numel();
    }
    return source_.gradients(indices);
  }

  /// Centers that are the gradients of single examples (exact for S = 1), spread by k-means++.
  Rank1Centers start(at::Generator& generator) {
    const auto examples = source_.examples();
    const auto seeds =
        std::min(examples, std::max(kMinSeeds, kSeedsPerCluster * options_.clusters));
    const auto sample =
        at::randperm(examples, generator, at::TensorOptions().dtype(at::kLong)).slice(0, 0, seeds);
    auto gram = at::empty({seeds, seeds}, at::kDouble);
    for (int64_t i = 0; i < seeds; i += chunk_) {
      const auto rows = gradients(sample.slice(0, i, i + chunk_));
      for (int64_t j = i; j < seeds; j += chunk_) {
        const auto columns = j == i ? rows : gradients(sample.slice(0, j, j + chunk_));
        const auto block = rows.gram(columns).to(at::kCPU);
        gram.slice(0, i, i + chunk_).slice(1, j, j + chunk_).copy_(block);
        gram.slice(0, j, j + chunk_).slice(1, i, i + chunk_).copy_(block.t());
      }
    }
    const auto picks = at::tensor(kmeans_plus_plus(gram, options_.clusters, generator), at::kLong);
    return centers_of(sample.index_select(0, picks), at::arange(options_.clusters, at::kLong));
  }

  /// U step over some examples with given clusters.
  Rank1Centers centers_of(const at::Tensor& indices, const at::Tensor& assignments) {
    std::optional<CenterUpdate> update;
    for (int64_t begin = 0; begin < indices.numel(); begin += chunk_) {
      const auto batch = gradients(indices.slice(0, begin, begin + chunk_));
      if (!update) {
        update.emplace(batch, options_.clusters);
      }
      update->add(batch, assignments.slice(0, begin, begin + chunk_));
    }
    return update->centers(nullptr);
  }

  /// A step and U step in one pass: every example goes to the cluster that costs least, and joins
  /// its next center. Without `former` the costs are unweighted.
  State assign(const Rank1Centers& centers, const State* former) {
    const auto examples = source_.examples();
    State next;
    next.assignments = at::empty({examples}, at::kLong);
    next.distances = at::empty({examples}, at::kDouble);
    next.sizes =
        former ? former->sizes : std::vector<int64_t>(static_cast<size_t>(options_.clusters), 0);
    next.sse.assign(static_cast<size_t>(options_.clusters), 0.0);
    std::optional<CenterUpdate> update;
    for (int64_t begin = 0; begin < examples; begin += chunk_) {
      const auto end = std::min(begin + chunk_, examples);
      const auto batch = gradients(at::arange(begin, end, at::kLong));
      if (!update) {
        update.emplace(batch, options_.clusters);
      }
      assign_chunk(centers.squared_distances(batch), begin, former, next);
      update->add(batch, next.assignments.slice(0, begin, end));
    }
    next.centers = update->centers(&centers);
    return next;
  }

  void assign_chunk(const at::Tensor& distances, int64_t begin, const State* former, State& next) {
    const auto cost = distances.accessor<double, 2>();
    auto* assignments = next.assignments.data_ptr<int64_t>() + begin;
    auto* nearest = next.distances.data_ptr<double>() + begin;
    const auto* old = former ? former->assignments.const_data_ptr<int64_t>() + begin : nullptr;
    for (int64_t i = 0; i < distances.size(0); ++i) {
      if (old != nullptr) {
        --next.sizes[static_cast<size_t>(old[i])];
      }
      int64_t best = 0;
      double lowest = std::numeric_limits<double>::infinity();
      for (int64_t k = 0; k < options_.clusters; ++k) {
        const double weight =
            old != nullptr ? static_cast<double>(next.sizes[static_cast<size_t>(k)] + 1) : 1.0;
        if (weight * cost[i][k] < lowest) {
          lowest = weight * cost[i][k];
          best = k;
        }
      }
      assignments[i] = best;
      nearest[i] = cost[i][best];
      ++next.sizes[static_cast<size_t>(best)];
      next.sse[static_cast<size_t>(best)] += cost[i][best];
    }
  }

  /// The far half of the most scattered cluster joins the smallest one, when that is too small.
  void split_smallest(State& state) {
    const auto smallest = std::min_element(state.sizes.begin(), state.sizes.end());
    if (*smallest * kSmallCluster * options_.clusters >= source_.examples()) {
      return;
    }
    const auto scattered = most_scattered(state);
    const auto to = smallest - state.sizes.begin();
    if (state.sizes[static_cast<size_t>(scattered)] < 2 || scattered == to) {
      return;
    }
    const auto members = (state.assignments == scattered).nonzero().squeeze(1);
    const auto order = at::argsort(state.distances.index_select(0, members), /*stable=*/true,
                                   /*dim=*/0, /*descending=*/false);
    const auto half = members.numel() / 2;
    const auto far = members.index_select(0, order.slice(0, half));
    state.assignments.index_fill_(0, far, to);
    const auto halves =
        centers_of(members, (state.assignments.index_select(0, members) == to).to(at::kLong));
    state.centers.replace(scattered, halves, 0);
    state.centers.replace(to, halves, 1);
    state.sizes[static_cast<size_t>(scattered)] -= far.numel();
    state.sizes[static_cast<size_t>(to)] += far.numel();
  }

  static int64_t most_scattered(const State& state) {
    size_t worst = 0;
    const auto scatter = [&](size_t k) {
      return static_cast<double>(state.sizes[k]) * state.sse[k];
    };
    for (size_t k = 1; k < state.sizes.size(); ++k) {
      if (scatter(k) > scatter(worst)) {
        worst = k;
      }
    }
    return static_cast<int64_t>(worst);
  }

  GradientSource& source_;
  LloydOptions options_;
  int64_t* evaluations_;
  int64_t chunk_;
};

}  // namespace

Clustering lloyd(GradientSource& source, const LloydOptions& options, at::Generator& generator,
                 int64_t* evaluations) {
  check_clusters(options.clusters, options.draws, source.examples());
  TORCH_CHECK_VALUE(options.iterations >= 1, "gc-iterations = ", options.iterations,
                    ": must be >= 1");
  Lloyd algorithm(source, options, evaluations);
  const auto cut = [&](Clustering clustering) {
    if (!options.balanced) {
      return clustering;
    }
    auto equal =
        balanced_clustering(at::cat(clustering.members()), options.clusters, options.draws);
    equal.history = std::move(clustering.history);
    return equal;
  };
  auto clustering = cut(algorithm.run(generator));
  const auto step = [&](const Clustering& former) { return cut(algorithm.step(former)); };
  return guarded(source, std::move(clustering),
                 {.draws = options.draws,
                  .replacement = options.replacement,
                  .max_memory = options.max_memory},
                 step, generator, evaluations);
}

}  // namespace gradist
