#include "gc/descent.h"

#include "gc/guard.h"
#include "gc/moves.h"
#include "gradients/kept_source.h"
#include "gradients/partial_source.h"
#include "gradients/visit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace gradist {
namespace {

/// A sketch has this many numbers along each side of a parameter.
constexpr int64_t kSide = 16;

/// Rows turned into float64 at once.
constexpr int64_t kChunkOfRows = 4096;

/// Up to this N all inner products are formed.
constexpr int64_t kMaxGram = 4096;

constexpr int64_t kDefaultMemory = int64_t{1} << 30;

/// J of the rows' partition, from sums and squared norms: sum_k N_k R_k - ||s_k||^2.
double objective_of_rows(const at::Tensor& rows, const at::Tensor& assignments, int64_t clusters) {
  auto sums = at::zeros({clusters, rows.size(1)}, at::kDouble);
  auto squares = at::zeros({clusters}, at::kDouble);
  for (const auto& chunk : at::arange(rows.size(0), at::kLong).split(kChunkOfRows)) {
    const auto part = rows.index_select(0, chunk).to(at::kDouble);
    const auto assigned = assignments.index_select(0, chunk);
    sums.index_add_(0, assigned, part);
    squares.index_add_(0, assigned, part.square().sum(1));
  }
  const auto sizes = assignments.bincount({}, clusters).to(at::kDouble);
  return (sizes * squares - sums.square().sum(1)).sum().item<double>();
}

/// The same from all inner products.
double objective_of_gram(const at::Tensor& gram, const at::Tensor& assignments, int64_t clusters) {
  auto sums = at::zeros({clusters, gram.size(1)}, at::kDouble).index_add_(0, assignments, gram);
  const auto within = sums.gather(0, assignments.unsqueeze(0)).sum();
  const auto sizes = assignments.bincount({}, clusters).to(at::kDouble);
  return ((sizes.index_select(0, assignments) * gram.diagonal()).sum() - within).item<double>();
}

/// (1 - r)^2, where r compares the former clusters' J now with that of random ones of equal size,
/// of whose variance SG-B's is: 1 where no variance is left, 0 where the clusters are worth
/// nothing.
template <typename Objective>
double kept_worth(const Clustering& former, const Objective& objective) {
  const auto together = at::zeros({former.examples()}, at::kLong);
  const auto random = objective(together, 1) / static_cast<double>(former.clusters());
  const auto now = objective(former.assignments(), former.clusters());
  const auto gain = random > 0 ? std::clamp(1 - now / random, 0.0, 1.0) : 0.0;
  return gain * gain;
}

at::Tensor random_order(int64_t n, at::Generator& generator) {
  return at::randperm(n, generator, at::TensorOptions().dtype(at::kLong));
}

class DescentRun {
 public:
  DescentRun(GradientSource& source, const DescentOptions& options, int64_t chunk)
      : source_(source), options_(options), chunk_(chunk) {}

  Clustering run(const Clustering* former, at::Generator& generator, DescentMemory* memory) {
    const auto examples = source_.examples();
    const auto start = start_of(former, generator);
    const auto products = make_products(former, generator, memory);
    std::vector<at::Tensor> orders;
    for (int64_t sweep = 0; sweep < options_.sweeps; ++sweep) {
      orders.push_back(random_order(examples, generator));
    }
    auto moved =
        descend_by_moves(*products, start.assignments(), options_.clusters, orders,
                         options_.balanced, examples <= kMaxGram ? 0 : kLeastGainOfSketches);
    Clustering result(moved.assignments, options_.clusters);
    result.history = std::move(moved.history);
    return result;
  }

 private:
  Clustering start_of(const Clustering* former, at::Generator& generator) const {
    if (former != nullptr && !options_.balanced) {
      return *former;
    }
    const auto order = former != nullptr ? at::cat(former->members())
                                         : random_order(source_.examples(), generator);
    return balanced_clustering(order, options_.clusters, options_.draws);
  }

  std::unique_ptr<ClusterProducts> make_products(const Clustering* former, at::Generator& generator,
                                                 DescentMemory* memory) {
    return source_.examples() <= kMaxGram
               ? products_of_gram(with_former_gram(gram(), former, memory), options_.clusters)
               : products_of_rows(row_reader(former, generator, memory), options_.clusters);
  }

  at::Tensor with_former_gram(at::Tensor now, const Clustering* former,
                              DescentMemory* memory) const {
    if (memory == nullptr || options_.memory == 0) {
      return now;
    }
    const auto remembered = std::exchange(memory->gram, now);
    if (!remembered.defined() || former == nullptr) {
      return now;
    }
    const auto worth = kept_worth(*former, [&](const at::Tensor& assignments, int64_t clusters) {
      return objective_of_gram(now, assignments, clusters);
    });
    return now + remembered * (options_.memory * worth);
  }

  /// Sketches from memory where they fit into it, else made anew for each block.
  RowReader row_reader(const Clustering* former, at::Generator& generator, DescentMemory* memory) {
    const auto examples = source_.examples();
    const auto seed = at::randint(std::numeric_limits<int64_t>::max(), {1}, generator,
                                  at::TensorOptions().dtype(at::kLong))
                          .item<int64_t>();
    const Sketch sketch(source_.gradients(at::zeros({1}, at::kLong)), kSide,
                        static_cast<uint64_t>(seed));
    const auto read = [this, sketch](const at::Tensor& block) {
      return sketch(source_.gradients(block)).to(at::kCPU);
    };
    const auto one = sketch(source_.gradients(at::zeros({1}, at::kLong))).to(at::kCPU);
    const auto bytes = examples * one.numel() * one.element_size();
    if (bytes > max_memory()) {
      return read;
    }
    const bool remembers = memory != nullptr && options_.memory > 0 && 3 * bytes <= max_memory();
    const auto remembered = remembers && former != nullptr ? memory->rows : at::Tensor();
    const auto width = one.size(1);
    auto rows = at::empty({examples, width + (remembered.defined() ? remembered.size(1) : 0)},
                          one.options());
    auto now = rows.slice(1, 0, width);
    for (const auto& chunk : at::arange(examples, at::kLong).split(chunk_)) {
      now.index_copy_(0, chunk, read(chunk));
    }
    if (remembered.defined()) {
      const auto worth = kept_worth(*former, [&](const at::Tensor& assignments, int64_t clusters) {
        return objective_of_rows(now, assignments, clusters);
      });
      rows.slice(1, width).copy_(remembered).mul_(std::sqrt(options_.memory * worth));
    }
    if (remembers) {
      memory->rows = remembered.defined() ? now.clone() : rows;
    }
    return [rows](const at::Tensor& block) { return rows.index_select(0, block); };
  }

  /// <g_i, g_j> of all pairs, [N, N] float64.
  at::Tensor gram() {
    const auto examples = source_.examples();
    const auto chunks = at::arange(examples, at::kLong).split(chunk_);
    auto products = at::empty({examples, examples}, at::kDouble);
    for (size_t j = 0; j < chunks.size(); ++j) {
      const auto columns = source_.gradients(chunks[j]);
      const auto at_column = static_cast<int64_t>(j) * chunk_;
      for (size_t i = 0; i <= j; ++i) {
        const auto rows = i == j ? columns : source_.gradients(chunks[i]);
        const auto block = rows.gram(columns).to(at::kCPU);
        const auto at_row = static_cast<int64_t>(i) * chunk_;
        products.slice(0, at_row, at_row + chunk_)
            .slice(1, at_column, at_column + chunk_)
            .copy_(block);
        products.slice(0, at_column, at_column + chunk_)
            .slice(1, at_row, at_row + chunk_)
            .copy_(block.t());
      }
    }
    return products;
  }

  int64_t max_memory() const {
    return options_.max_memory > 0 ? options_.max_memory : kDefaultMemory;
  }

  GradientSource& source_;
  DescentOptions options_;
  int64_t chunk_;
};

void check(const DescentOptions& options, const Clustering* former, int64_t examples) {
  check_clusters(options.clusters, options.draws, examples);
  TORCH_CHECK_VALUE(options.sweeps >= 1, "gc-iterations = ", options.sweeps, ": must be >= 1");
  TORCH_CHECK_VALUE(options.memory >= 0, "gc-memory = ", options.memory, ": must be >= 0");
  TORCH_CHECK_VALUE(former == nullptr ||
                        (former->examples() == examples && former->clusters() <= options.clusters),
                    "former clusters: must be of ", examples, " examples in at most ",
                    options.clusters, " clusters");
}

}  // namespace

Clustering descent(GradientSource& source, const DescentOptions& options, const Clustering* former,
                   at::Generator& generator, int64_t* evaluations, DescentMemory* memory) {
  check(options, former, source.examples());
  KeptSource whole(source, options.max_memory);
  PartialSource compared(whole, options.parameters);
  DescentRun algorithm(compared, options, chunk_size(source, options.max_memory));
  auto clustering = algorithm.run(former, generator, memory);
  const auto step = [&](const Clustering& from) {
    return algorithm.run(&from, generator, nullptr);
  };
  auto result = guarded(whole, std::move(clustering),
                        {.draws = options.draws,
                         .replacement = options.replacement,
                         .max_memory = options.max_memory},
                        step, generator);
  if (evaluations != nullptr) {
    *evaluations += whole.evaluations();
  }
  return result;
}

}  // namespace gradist
