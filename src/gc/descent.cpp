#include "gc/descent.h"

#include "gc/guard.h"
#include "gc/moves.h"
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

/// Up to this N all inner products are formed.
constexpr int64_t kMaxGram = 4096;

constexpr int64_t kDefaultMemory = int64_t{1} << 30;

at::Tensor random_order(int64_t n, at::Generator& generator) {
  return at::randperm(n, generator, at::TensorOptions().dtype(at::kLong));
}

class DescentRun {
 public:
  /// `source` is what is compared, of `whole` which it is made from.
  DescentRun(GradientSource& source, GradientSource& whole, const DescentOptions& options,
             int64_t* evaluations)
      : source_(source),
        options_(options),
        evaluations_(evaluations),
        chunk_(chunk_size(whole, options.max_memory)) {}

  Clustering run(const Clustering* former, at::Generator& generator, DescentMemory* memory) {
    const auto examples = source_.examples();
    const auto start = start_of(former, generator);
    const auto products = make_products(generator, memory);
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

  std::unique_ptr<ClusterProducts> make_products(at::Generator& generator, DescentMemory* memory) {
    return source_.examples() <= kMaxGram
               ? products_of_gram(with_former_gram(gram(), memory), options_.clusters)
               : products_of_rows(row_reader(generator, memory), options_.clusters);
  }

  at::Tensor with_former_gram(at::Tensor now, DescentMemory* memory) const {
    if (memory == nullptr || options_.memory == 0) {
      return now;
    }
    const auto former = std::exchange(memory->gram, now);
    return former.defined() ? now + former * options_.memory : now;
  }

  /// Sketches from memory where they fit into it, else made anew for each block.
  RowReader row_reader(at::Generator& generator, DescentMemory* memory) {
    const auto examples = source_.examples();
    const auto seed = at::randint(std::numeric_limits<int64_t>::max(), {1}, generator,
                                  at::TensorOptions().dtype(at::kLong))
                          .item<int64_t>();
    const Sketch sketch(source_.gradients(at::zeros({1}, at::kLong)), kSide,
                        static_cast<uint64_t>(seed));
    const auto read = [this, sketch](const at::Tensor& block) {
      return sketch(gradients(block)).to(at::kCPU);
    };
    const auto one = sketch(source_.gradients(at::zeros({1}, at::kLong))).to(at::kCPU);
    const auto bytes = examples * one.numel() * one.element_size();
    if (bytes > max_memory()) {
      return read;
    }
    auto rows = at::empty({examples, one.size(1)}, one.options());
    for (int64_t begin = 0; begin < examples; begin += chunk_) {
      const auto end = std::min(begin + chunk_, examples);
      rows.slice(0, begin, end).copy_(read(at::arange(begin, end, at::kLong)));
    }
    at::Tensor former;
    if (memory != nullptr && options_.memory > 0 && 2 * bytes <= max_memory()) {
      former = std::exchange(memory->rows, rows);
    }
    if (!former.defined()) {
      return [rows](const at::Tensor& block) { return rows.index_select(0, block); };
    }
    const auto scale = std::sqrt(options_.memory);
    return [rows, former, scale](const at::Tensor& block) {
      return at::cat({rows.index_select(0, block), former.index_select(0, block) * scale}, 1);
    };
  }

  /// <g_i, g_j> of all pairs, [N, N] float64. Factors of all examples are kept where the memory
  /// allows it, else made again for each pair of chunks.
  at::Tensor gram() {
    const auto examples = source_.examples();
    const auto chunks = at::arange(examples, at::kLong).split(chunk_);
    auto products = at::empty({examples, examples}, at::kDouble);
    std::vector<GradientBatch> kept;
    for (size_t j = 0; j < chunks.size(); ++j) {
      const auto columns = gradients(chunks[j]);
      const bool keeps = columns.bytes() * static_cast<int64_t>(chunks.size()) <= max_memory();
      const auto at_column = static_cast<int64_t>(j) * chunk_;
      for (size_t i = 0; i <= j; ++i) {
        const auto rows = i == j ? columns : i < kept.size() ? kept[i] : gradients(chunks[i]);
        const auto block = rows.gram(columns).to(at::kCPU);
        const auto at_row = static_cast<int64_t>(i) * chunk_;
        products.slice(0, at_row, at_row + chunk_)
            .slice(1, at_column, at_column + chunk_)
            .copy_(block);
        products.slice(0, at_column, at_column + chunk_)
            .slice(1, at_row, at_row + chunk_)
            .copy_(block.t());
      }
      if (keeps) {
        kept.push_back(columns);
      }
    }
    return products;
  }

  GradientBatch gradients(const at::Tensor& indices) {
    if (evaluations_ != nullptr) {
      *evaluations_ += indices.numel();
    }
    return source_.gradients(indices);
  }

  int64_t max_memory() const {
    return options_.max_memory > 0 ? options_.max_memory : kDefaultMemory;
  }

  GradientSource& source_;
  DescentOptions options_;
  int64_t* evaluations_;
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
  PartialSource compared(source, options.parameters);
  DescentRun algorithm(compared, source, options, evaluations);
  auto clustering = algorithm.run(former, generator, memory);
  const auto step = [&](const Clustering& from) {
    return algorithm.run(&from, generator, nullptr);
  };
  return guarded(source, std::move(clustering),
                 {.draws = options.draws,
                  .replacement = options.replacement,
                  .max_memory = options.max_memory},
                 step, generator, evaluations);
}

}  // namespace gradist
