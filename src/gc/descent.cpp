#include "gc/descent.h"

#include "gc/guard.h"
#include "gc/moves.h"
#include "gradients/kept_source.h"
#include "gradients/partial_source.h"
#include "gradients/visit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/addcmul.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randperm.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <limits>
#include <utility>

namespace gradist {
namespace {

/// Up to this N all inner products are formed, if they fit into the memory.
constexpr int64_t kMaxGram = 4096;

constexpr int64_t kDefaultMemory = int64_t{1} << 30;

/// Former sketches that weigh less than this beside the present ones are not worth their time.
constexpr double kLeastWeight = 0.05;

at::Tensor random_order(int64_t n, at::Generator& generator) {
  return at::randperm(n, generator, at::TensorOptions().dtype(at::kLong));
}

class DescentRun {
 public:
  DescentRun(GradientSource& source, const DescentOptions& options, int64_t chunk)
      : source_(source), options_(options), chunk_(chunk) {}

  Clustering run(const Clustering* former, at::Generator& generator, DescentMemory* memory) {
    const auto start = start_of(former, generator);
    const auto products = make_products(former, generator, memory);
    std::vector<at::Tensor> orders;
    for (int64_t sweep = 0; sweep < options_.sweeps; ++sweep) {
      orders.push_back(order_of_sweep(generator));
    }
    auto moved = descend_by_moves(*products, start.assignments(), options_.clusters, orders,
                                  options_.balanced, by_gram() ? 0 : kLeastGainOfSketches);
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

  /// Rows are visited in runs that lie side by side in memory, the runs in random order. Where
  /// examples exchange clusters with others of their block, or rows are few, each is by itself.
  at::Tensor order_of_sweep(at::Generator& generator) const {
    const auto examples = source_.examples();
    if (options_.balanced || by_gram()) {
      return random_order(examples, generator);
    }
    const auto whole = examples / kBlockOfMoves;
    const auto begins = random_order(whole, generator) * kBlockOfMoves;
    const auto runs = begins.unsqueeze(1) + at::arange(kBlockOfMoves, at::kLong);
    return at::cat({runs.flatten(), at::arange(whole * kBlockOfMoves, examples, at::kLong)});
  }

  bool by_gram() const {
    const auto examples = source_.examples();
    const auto bytes = examples * examples * static_cast<int64_t>(sizeof(double));
    return examples <= kMaxGram && bytes <= max_memory();
  }

  std::unique_ptr<ClusterProducts> make_products(const Clustering* former, at::Generator& generator,
                                                 DescentMemory* memory) {
    return by_gram() ? products_of_gram(with_former_gram(gram(), former, memory), options_.clusters)
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
    return now + remembered * weight_of(*products_of_gram(now, former->clusters()), *former);
  }

  /// Of the products where the former clusters were made: gc-memory (1 - r)^4 for the r that is
  /// left now of the variance of random clusters.
  double weight_of(ClusterProducts& now, const Clustering& former) const {
    const auto gain = 1 - objective_over_random(now, former.assignments(), former.clusters());
    return options_.memory * std::pow(gain, 4);
  }

  /// Sketches from memory where they fit into it, else made anew for each block.
  RowReader row_reader(const Clustering* former, at::Generator& generator, DescentMemory* memory) {
    const auto examples = source_.examples();
    const auto seed = at::randint(std::numeric_limits<int64_t>::max(), {1}, generator,
                                  at::TensorOptions().dtype(at::kLong))
                          .item<int64_t>();
    const auto first = source_.gradients(at::zeros({1}, at::kLong));
    const Sketch sketch(first, options_.sketch, static_cast<uint64_t>(seed));
    const auto read = [this, sketch](const at::Tensor& block) {
      return sketch(source_.gradients(block)).to(at::kCPU);
    };
    const auto one = sketch(first).to(at::kCPU);
    const auto bytes = examples * one.numel() * one.element_size();
    if (bytes > max_memory()) {
      return read;
    }
    auto rows = at::empty({examples, one.size(1)}, one.options());
    for (const auto& chunk : at::arange(examples, at::kLong).split(chunk_)) {
      examples_of(rows, chunk).copy_(read(chunk));
    }
    const bool remembers = memory != nullptr && options_.memory > 0 && 2 * bytes <= max_memory();
    return remembers ? with_former_rows(rows, former, generator, *memory) : reader_of(rows);
  }

  /// x_i = y_i + sqrt(w) S z_i of present sketches y_i and former ones z_i, with a random sign for
  /// each number, S: <x_i, x_j> = <y_i, y_j> + w <z_i, z_j> on average, at the width of one sketch.
  RowReader with_former_rows(const at::Tensor& now, const Clustering* former,
                             at::Generator& generator, DescentMemory& memory) const {
    const auto remembered = std::exchange(memory.rows, now);
    if (!remembered.defined() || former == nullptr) {
      return reader_of(now);
    }
    TORCH_CHECK_VALUE(remembered.size(1) == now.size(1), "gc-sketch = ", options_.sketch,
                      ": must be that of the former clusters, or gc-memory 0");
    const auto products = products_of_rows(reader_of(now), former->clusters());
    const auto weight = weight_of(*products, *former);
    if (weight < kLeastWeight) {
      return reader_of(now);
    }
    const auto signs = at::randint(2, {now.size(1)}, generator, now.options()) * 2 - 1;
    const auto scale = signs * std::sqrt(weight);
    return [=](const at::Tensor& block) {
      return at::addcmul(examples_of(now, block), examples_of(remembered, block), scale);
    };
  }

  static RowReader reader_of(const at::Tensor& rows) {
    return [rows](const at::Tensor& block) { return examples_of(rows, block); };
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
  TORCH_CHECK_VALUE(options.sketch >= 1, "gc-sketch = ", options.sketch, ": must be >= 1");
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
