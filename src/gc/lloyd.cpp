#include "gc/lloyd.h"

#include "choice.h"
#include "gc/center_update.h"
#include "gc/guard.h"
#include "gc/kmeans_plus_plus.h"
#include "gradients/kept_source.h"
#include "gradients/partial_source.h"
#include "gradients/visit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/argsort.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/tensor.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
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

/// Adds the wall time of what is done while it lives.
class Timed {
 public:
  explicit Timed(double& seconds) : seconds_(seconds) {}
  ~Timed() {
    seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

at::Tensor random_order(int64_t examples, at::Generator& generator) {
  return at::randperm(examples, generator, at::TensorOptions().dtype(at::kLong));
}

/// The examples of each cluster among `indices` [B] with their `assignments` [B]: K tensors.
std::vector<at::Tensor> strata_of(const at::Tensor& indices, const at::Tensor& assignments,
                                  int64_t clusters) {
  const auto order = at::argsort(assignments, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const auto sizes = assignments.bincount({}, clusters);
  const auto sorted = indices.index_select(0, order);
  std::vector<at::Tensor> strata;
  int64_t begin = 0;
  for (int64_t k = 0; k < clusters; ++k) {
    const auto end = begin + sizes[k].item<int64_t>();
    strata.push_back(sorted.slice(0, begin, end));
    begin = end;
  }
  return strata;
}

/// One run of Lloyd's alternation over a source.
class Lloyd {
 public:
  Lloyd(GradientSource& source, const LloydOptions& options, int64_t chunk)
      : source_(source),
        options_(options),
        steps_(options.steps),
        chunk_(std::min(chunk, std::max<int64_t>(1, kMaxDistances / options.clusters))) {}

  Clustering run(at::Generator& generator) {
    const auto examples = source_.examples();
    auto centers = start(generator);
    AssignedExamples state(examples, options_.clusters);
    visit(part_of(1, generator), Weighting::kNone, state, centers);
    std::vector<double> history{state.objective()};
    auto best = state.assignments.clone();
    auto lowest = history.back();
    for (int64_t iteration = 1; iteration < options_.iterations; ++iteration) {
      split_smallest(state, centers);
      visit(part_of(steps_.fraction, generator), steps_.weighting, state, centers);
      history.push_back(state.objective());
      if (history.back() < lowest) {
        lowest = history.back();
        best = state.assignments.clone();
      }
    }
    Clustering result(best, options_.clusters);
    result.history = std::move(history);
    return result;
  }

  Clustering step(const Clustering& clustering) {
    const auto all = at::arange(clustering.examples(), at::kLong);
    const auto centers =
        centers_of(all, clustering.assignments(), clustering.clusters(), nullptr, 0);
    AssignedExamples state(clustering);
    assign(all, steps_.weighting, state, centers, nullptr);
    return Clustering(state.assignments, clustering.clusters());
  }

  const std::map<std::string, double>& seconds() const { return seconds_; }

 private:
  GradientBatch gradients(const at::Tensor& indices) {
    const Timed timed(seconds_["gradients"]);
    return source_.gradients(indices);
  }

  /// Centers that are the gradients of single examples (by factors exact for S = 1). They stand for
  /// no example: the first U step forgets them.
  FactoredCenters start(at::Generator& generator) {
    const auto seeds =
        std::min(source_.examples(), std::max(kMinSeeds, kSeedsPerCluster * options_.clusters));
    const auto sample = random_order(source_.examples(), generator).slice(0, 0, seeds);
    const auto all = at::arange(options_.clusters, at::kLong);
    const auto picks =
        steps_.start == Start::kRandom
            ? all
            : at::tensor(kmeans_plus_plus(gram(sample), options_.clusters, generator), at::kLong);
    auto centers = centers_of(sample.index_select(0, picks), all, options_.clusters, nullptr, 0);
    centers.weights.zero_();
    return centers;
  }

  /// Inner products of some examples' gradients, float64.
  at::Tensor gram(const at::Tensor& sample) {
    const auto seeds = sample.numel();
    auto products = at::empty({seeds, seeds}, at::kDouble);
    for (int64_t i = 0; i < seeds; i += chunk_) {
      const auto rows = gradients(sample.slice(0, i, i + chunk_));
      for (int64_t j = i; j < seeds; j += chunk_) {
        const auto columns = j == i ? rows : gradients(sample.slice(0, j, j + chunk_));
        const auto block = rows.gram(columns).to(at::kCPU);
        products.slice(0, i, i + chunk_).slice(1, j, j + chunk_).copy_(block);
        products.slice(0, j, j + chunk_).slice(1, i, i + chunk_).copy_(block.t());
      }
    }
    return products;
  }

  /// What an A step visits: in the data's order where that is all, and U steps wait for its end.
  at::Tensor part_of(double fraction, at::Generator& generator) const {
    const auto examples = source_.examples();
    if (fraction >= 1 && steps_.minibatch == 0) {
      return at::arange(examples, at::kLong);
    }
    const auto part = static_cast<int64_t>(std::ceil(fraction * static_cast<double>(examples)));
    return random_order(examples, generator).slice(0, 0, std::clamp<int64_t>(part, 1, examples));
  }

  /// A, N_k and U steps over `visited`, a minibatch at a time.
  void visit(const at::Tensor& visited, Weighting weighting, AssignedExamples& state,
             FactoredCenters& centers) {
    const auto size = steps_.minibatch > 0 ? steps_.minibatch : visited.numel();
    for (const auto& part : visited.split(size)) {
      if (steps_.centers == CenterKind::kFactors) {
        std::optional<FactorMeans> means;
        assign(part, weighting, state, centers, &means);
        const Timed timed(seconds_["U step"]);
        centers = means->centers(&centers, steps_.decay);
      } else {
        assign(part, weighting, state, centers, nullptr);
        centers = centers_of(part, state.assignments.index_select(0, part), options_.clusters,
                             &centers, steps_.decay);
      }
    }
  }

  /// The A step: every example goes to the cluster that costs least, and joins its next center's
  /// `means` where they are given.
  void assign(const at::Tensor& visited, Weighting weighting, AssignedExamples& state,
              const FactoredCenters& centers, std::optional<FactorMeans>* means) {
    const auto counted = state.sizes;
    const auto center_norms = centers.squared_norms();
    for (const auto& chunk : visited.split(chunk_)) {
      const auto batch = gradients(chunk);
      {
        const Timed timed(seconds_["A step"]);
        const auto distances = centers.squared_distances(batch, center_norms);
        state.reassign(chunk, distances, weighting, counted);
      }
      if (means != nullptr) {
        const Timed timed(seconds_["U step"]);
        if (!*means) {
          means->emplace(batch, options_.clusters);
        }
        (*means)->add(batch, state.assignments.index_select(0, chunk));
      }
    }
  }

  /// The U step over some examples with given clusters.
  FactoredCenters centers_of(const at::Tensor& indices, const at::Tensor& assignments,
                             int64_t clusters, const FactoredCenters* former, double decay) {
    return steps_.centers == CenterKind::kFactors
               ? factor_means(indices, assignments, clusters, former, decay)
               : truncated_means(indices, assignments, clusters, former, decay);
  }

  FactoredCenters factor_means(const at::Tensor& indices, const at::Tensor& assignments,
                               int64_t clusters, const FactoredCenters* former, double decay) {
    std::optional<FactorMeans> means;
    for (int64_t begin = 0; begin < indices.numel(); begin += chunk_) {
      const auto batch = gradients(indices.slice(0, begin, begin + chunk_));
      const Timed timed(seconds_["U step"]);
      if (!means) {
        means.emplace(batch, clusters);
      }
      means->add(batch, assignments.slice(0, begin, begin + chunk_));
    }
    return means->centers(former, decay);
  }

  FactoredCenters truncated_means(const at::Tensor& indices, const at::Tensor& assignments,
                                  int64_t clusters, const FactoredCenters* former, double decay) {
    std::optional<TruncatedMeans> means;
    for (const auto& chunk : plan_visit(strata_of(indices, assignments, clusters), chunk_)) {
      const auto batch = gradients(chunk.indices);
      const Timed timed(seconds_["U step"]);
      if (!means) {
        means.emplace(batch, clusters, steps_.rank, former, decay);
      }
      means->add(batch, chunk.segments);
    }
    seconds_["SVD"] += means->svd_seconds();
    seconds_["U step"] -= means->svd_seconds();
    return means->centers();
  }

  /// The far half of the most scattered cluster joins the smallest one, when that is too small.
  void split_smallest(AssignedExamples& state, FactoredCenters& centers) {
    const auto smallest = std::min_element(state.sizes.begin(), state.sizes.end());
    if (*smallest * kSmallCluster * options_.clusters >= source_.examples()) {
      return;
    }
    const auto scattered = state.most_scattered();
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
    const auto halves = centers_of(
        members, (state.assignments.index_select(0, members) == to).to(at::kLong), 2, nullptr, 0);
    centers.replace(scattered, halves, 0);
    centers.replace(to, halves, 1);
    state.sizes[static_cast<size_t>(scattered)] -= far.numel();
    state.sizes[static_cast<size_t>(to)] += far.numel();
  }

  GradientSource& source_;
  LloydOptions options_;
  LloydSteps steps_;
  int64_t chunk_;
  std::map<std::string, double> seconds_;
};

void check(const LloydOptions& options, int64_t examples) {
  check_clusters(options.clusters, options.draws, examples);
  TORCH_CHECK_VALUE(options.iterations >= 1, "gc-iterations = ", options.iterations,
                    ": must be >= 1");
  validate(options.steps);
}

}  // namespace

const std::vector<std::string>& center_names() {
  static const std::vector<std::string> names = {"factors", "svd"};
  return names;
}

CenterKind center_by_name(const std::string& name) {
  return choice_by_name<CenterKind>("gc-centers", center_names(), name);
}

const std::vector<std::string>& start_names() {
  static const std::vector<std::string> names = {"k-means++", "random"};
  return names;
}

Start start_by_name(const std::string& name) {
  return choice_by_name<Start>("gc-start", start_names(), name);
}

void validate(const LloydSteps& steps) {
  TORCH_CHECK_VALUE(steps.rank >= 1, "gc-rank = ", steps.rank, ": must be >= 1");
  TORCH_CHECK_VALUE(steps.rank == 1 || steps.centers == CenterKind::kSvd, "gc-rank = ", steps.rank,
                    ": must be 1 where gc-centers = factors");
  TORCH_CHECK_VALUE(steps.fraction > 0 && steps.fraction <= 1, "gc-fraction = ", steps.fraction,
                    ": must lie in (0, 1]");
  TORCH_CHECK_VALUE(steps.minibatch >= 0, "gc-minibatch = ", steps.minibatch, ": must be >= 0");
  TORCH_CHECK_VALUE(steps.decay >= 0 && steps.decay <= 1, "gc-decay = ", steps.decay,
                    ": must lie in [0, 1]");
}

Clustering lloyd(GradientSource& source, const LloydOptions& options, at::Generator& generator,
                 int64_t* evaluations) {
  check(options, source.examples());
  KeptSource whole(source, options.max_memory);
  PartialSource compared(whole, options.parameters);
  Lloyd algorithm(compared, options, chunk_size(source, options.max_memory));
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
  const auto seconds = algorithm.seconds();  // the guard may take steps of its own
  const auto step = [&](const Clustering& former) { return cut(algorithm.step(former)); };
  auto result = guarded(whole, std::move(clustering),
                        {.draws = options.draws,
                         .replacement = options.replacement,
                         .max_memory = options.max_memory},
                        step, generator);
  result.seconds = seconds;
  if (evaluations != nullptr) {
    *evaluations += whole.evaluations();
  }
  return result;
}

Clustering lloyd_step(GradientSource& source, const LloydOptions& options,
                      const Clustering& clustering) {
  check(options, source.examples());
  PartialSource compared(source, options.parameters);
  return Lloyd(compared, options, chunk_size(source, options.max_memory)).step(clustering);
}

}  // namespace gradist
