#include "estimators/gradient_estimator.h"

#include "estimators/gradient_clustering.h"
#include "estimators/importance.h"
#include "estimators/minibatch.h"
#include "estimators/svrg.h"

#include <ATen/TensorOperators.h>

namespace gradist {
namespace {

using Maker = std::unique_ptr<GradientEstimator> (*)(const EstimatorOptions&, int64_t examples);

struct NamedMaker {
  const char* name;
  Maker make;
};

std::unique_ptr<GradientEstimator> make_double_minibatch(const EstimatorOptions& options,
                                                         int64_t examples) {
  const auto draws = 2 * options.batch_size;
  TORCH_CHECK_VALUE(options.replacement || draws <= examples, "batch-size = ", options.batch_size,
                    ": sg-2b draws ", draws, ", must be <= the number of examples, ", examples,
                    ", without replacement");
  return std::make_unique<Minibatch>("sg-2b", examples, draws, options.replacement);
}

/// K, within what N examples and B draws allow.
int64_t checked_clusters(const EstimatorOptions& options, int64_t examples) {
  const auto clusters = options.clusters > 0 ? options.clusters : options.batch_size;
  TORCH_CHECK_VALUE(clusters <= options.batch_size, "clusters = ", clusters,
                    ": must be <= batch-size, ", options.batch_size);
  TORCH_CHECK_VALUE(clusters <= examples, "clusters = ", clusters,
                    ": must be <= the number of examples, ", examples);
  TORCH_CHECK_VALUE(options.gc_iterations >= 1, "gc-iterations = ", options.gc_iterations,
                    ": must be >= 1");
  return clusters;
}

std::unique_ptr<GradientEstimator> make_lloyd(const EstimatorOptions& options, int64_t examples) {
  validate(options.gc_steps);
  const LloydOptions lloyd{.clusters = checked_clusters(options, examples),
                           .iterations = options.gc_iterations,
                           .steps = options.gc_steps,
                           .parameters = options.gc_parameters,
                           .balanced = options.balanced,
                           .replacement = options.replacement,
                           .max_memory = options.max_memory};
  return std::make_unique<GradientClustering>("gc", options.batch_size, lloyd, options.allocation);
}

DescentOptions descent_options(const EstimatorOptions& options, int64_t examples) {
  return {.clusters = checked_clusters(options, examples),
          .sweeps = options.gc_iterations,
          .balanced = options.balanced,
          .replacement = options.replacement,
          .memory = options.gc_memory,
          .sketch = options.gc_sketch,
          .parameters = options.gc_parameters,
          .max_memory = options.max_memory};
}

std::unique_ptr<GradientEstimator> make_descent(const EstimatorOptions& options, int64_t examples) {
  return std::make_unique<GradientClustering>(
      "gc-descent", options.batch_size, descent_options(options, examples), options.allocation);
}

void check_importance(const char* name, const EstimatorOptions& options) {
  TORCH_CHECK_VALUE(options.replacement, "replacement = no: must be yes for ", name,
                    ", which draws by the norms of gradients");
  TORCH_CHECK_VALUE(options.importance_mix > 0 && options.importance_mix <= 1,
                    "importance-mix = ", options.importance_mix, ": must lie in (0, 1]");
}

std::unique_ptr<GradientEstimator> make_descent_with_importance(const EstimatorOptions& options,
                                                                int64_t examples) {
  check_importance("gc-importance", options);
  return std::make_unique<GradientClustering>("gc-importance", options.batch_size,
                                              descent_options(options, examples),
                                              options.allocation, options.importance_mix);
}

std::unique_ptr<GradientEstimator> make_importance(const EstimatorOptions& options,
                                                   int64_t /*examples*/) {
  check_importance("sg-importance", options);
  return std::make_unique<Importance>(options.batch_size, options.importance_mix,
                                      options.max_memory);
}

/// The one table of estimators: a new one is a row here and a file of its own.
constexpr NamedMaker kEstimators[] = {
    {"sg-b",
     [](const EstimatorOptions& o, int64_t examples) -> std::unique_ptr<GradientEstimator> {
       return std::make_unique<Minibatch>("sg-b", examples, o.batch_size, o.replacement);
     }},
    {"sg-2b", make_double_minibatch},
    {"svrg",
     [](const EstimatorOptions& o, int64_t examples) -> std::unique_ptr<GradientEstimator> {
       return std::make_unique<Svrg>(examples, o.batch_size, o.replacement, o.max_memory);
     }},
    {"gc", make_lloyd},
    {"gc-descent", make_descent},
    {"gc-importance", make_descent_with_importance},
    {"sg-importance", make_importance},
};

}  // namespace

ParameterList GradientEstimator::estimate(GradientSource& source,
                                          const WeightedBatch& batch) const {
  return corrected(source, batch, source.weighted_gradient(batch.indices, batch.weights));
}

ParameterList GradientEstimator::corrected(GradientSource& source, const WeightedBatch& batch,
                                           ParameterList plain) const {
  if (const auto* control = snapshot()) {
    const AtSnapshot there(source, *control);
    const auto at_snapshot = source.weighted_gradient(batch.indices, batch.weights);
    for (size_t l = 0; l < plain.size(); ++l) {
      plain[l] = plain[l] - at_snapshot[l] + control->gradient[l].to(plain[l].options());
    }
  }
  return plain;
}

int64_t GradientEstimator::cost_per_draw() const {
  return design().draws() * (snapshot() != nullptr ? 2 : 1);
}

const std::vector<std::string>& estimator_names() {
  static const auto names = [] {
    std::vector<std::string> list;
    for (const auto& row : kEstimators) {
      list.emplace_back(row.name);
    }
    return list;
  }();
  return names;
}

std::unique_ptr<GradientEstimator> make_estimator(const std::string& name,
                                                  const EstimatorOptions& options,
                                                  int64_t examples) {
  TORCH_CHECK_VALUE(options.batch_size >= 1 && options.batch_size <= examples,
                    "batch-size = ", options.batch_size, ": must lie in [1, ", examples,
                    "], the number of examples");
  std::string known;
  for (const auto& row : kEstimators) {
    if (name == row.name) {
      return row.make(options, examples);
    }
    known += (known.empty() ? "" : "|") + std::string(row.name);
  }
  TORCH_CHECK_VALUE(false, "estimator = ", name, ": must be one of ", known);
}

}  // namespace gradist
