#include "bind.h"
#include "python_source.h"

#include "estimators/gradient_clustering.h"
#include "estimators/measurement.h"
#include "estimators/svrg.h"
#include "gc/descent.h"
#include "gc/lloyd.h"
#include "gc/moves.h"
#include "gc/sampling_design.h"

#include <ATen/CPUGeneratorImpl.h>

#include <map>
#include <memory>
#include <optional>
#include <utility>

namespace gradist::python {
namespace {

/// The full pass that makes an estimator ready: at the snapshot's parameters, from clusters made
/// before, or its own refresh.
void prepare(GradientEstimator& estimator, GradientSource& source,
             const std::optional<ParameterList>& snapshot,
             const std::optional<Clustering>& clustering, at::Generator& generator) {
  auto* stratified = dynamic_cast<GradientClustering*>(&estimator);
  if (stratified != nullptr && clustering) {
    stratified->set_clustering(*clustering);
    return;
  }
  std::optional<ParameterSwap> at_snapshot;
  if (estimator.snapshot() != nullptr && snapshot) {
    at_snapshot.emplace(source, *snapshot);
  }
  estimator.refresh(source, generator);
}

Measurement measure_source(const py::object& python_source, const std::vector<std::string>& names,
                           const EstimatorOptions& estimator_options,
                           const MeasureOptions& measure_options,
                           const std::optional<ParameterList>& snapshot,
                           const std::optional<Clustering>& clustering, uint64_t seed) {
  PythonSource source(python_source);
  const py::gil_scoped_release no_gil;
  at::Generator generator = at::detail::createCPUGenerator(seed);
  std::vector<std::unique_ptr<GradientEstimator>> estimators;
  std::vector<const GradientEstimator*> pointers;
  for (const auto& name : names) {
    estimators.push_back(make_estimator(name, estimator_options, source.examples()));
    prepare(*estimators.back(), source, snapshot, clustering, generator);
    pointers.push_back(estimators.back().get());
  }
  return measure(source, pointers, measure_options, generator);
}

/// What every clustering algorithm is called with from Python.
template <class Algorithm>
Clustering clusters_of(const py::object& python_source, uint64_t seed, const Algorithm& algorithm) {
  PythonSource source(python_source);
  const py::gil_scoped_release no_gil;
  at::Generator generator = at::detail::createCPUGenerator(seed);
  return algorithm(source, generator);
}

MeasureMode mode_by_name(const std::string& name) {
  static const std::map<std::string, MeasureMode> modes = {{"exact", MeasureMode::kExact},
                                                           {"subset", MeasureMode::kSubset},
                                                           {"sampled", MeasureMode::kSampled}};
  const auto found = modes.find(name);
  TORCH_CHECK_VALUE(found != modes.end(), "method = ", name, ", must be exact, subset or sampled");
  return found->second;
}

void bind_clustering(py::module_& module) {
  py::class_<Clustering>(module, "Clustering")
      .def(py::init<const at::Tensor&, int64_t>(), py::arg("assignments"), py::arg("clusters") = 0)
      .def_property_readonly("assignments", &Clustering::assignments)
      .def_property_readonly("sizes", &Clustering::sizes)
      .def_readonly("objective", &Clustering::objective)
      .def_readonly("scatter", &Clustering::scatter)
      .def_property_readonly("parameter_scatter",
                             [](const Clustering& clustering) -> std::optional<at::Tensor> {
                               if (!clustering.parameter_scatter.defined()) {
                                 return std::nullopt;
                               }
                               return clustering.parameter_scatter;
                             })
      .def_readonly("seconds", &Clustering::seconds)
      .def_readonly("history", &Clustering::history);

  module.def(
      "lloyd",
      [](const py::object& source, int64_t clusters, int64_t iterations, const std::string& start,
         const std::string& centers, int64_t rank, const std::string& weighting, double fraction,
         int64_t minibatch, double decay, const std::vector<std::string>& parameters, bool balanced,
         int64_t max_memory, uint64_t seed) {
        const LloydOptions options{.clusters = clusters,
                                   .iterations = iterations,
                                   .steps = {.start = start_by_name(start),
                                             .centers = center_by_name(centers),
                                             .rank = rank,
                                             .weighting = weighting_by_name(weighting),
                                             .fraction = fraction,
                                             .minibatch = minibatch,
                                             .decay = decay},
                                   .parameters = parameters,
                                   .balanced = balanced,
                                   .max_memory = max_memory};
        return clusters_of(source, seed, [&](GradientSource& of, at::Generator& generator) {
          return lloyd(of, options, generator);
        });
      },
      py::arg("source"), py::kw_only(), py::arg("clusters"), py::arg("iterations"),
      py::arg("start"), py::arg("centers"), py::arg("rank"), py::arg("weighting"),
      py::arg("fraction"), py::arg("minibatch"), py::arg("decay"), py::arg("parameters"),
      py::arg("balanced"), py::arg("max_memory"), py::arg("seed"));
  py::class_<DescentMemory>(module, "DescentMemory")
      .def(py::init<>())
      .def(py::init<const DescentMemory&>(), py::arg("other"));
  module.def(
      "descent",
      [](const py::object& source, int64_t clusters, int64_t iterations, double memory_weight,
         int64_t sketch, const std::vector<std::string>& parameters, bool balanced,
         int64_t max_memory, uint64_t seed, const std::optional<Clustering>& start,
         DescentMemory& memory) {
        const DescentOptions options{.clusters = clusters,
                                     .sweeps = iterations,
                                     .balanced = balanced,
                                     .memory = memory_weight,
                                     .sketch = sketch,
                                     .parameters = parameters,
                                     .max_memory = max_memory};
        return clusters_of(source, seed, [&](GradientSource& of, at::Generator& generator) {
          return descent(of, options, start ? &*start : nullptr, generator, nullptr, &memory);
        });
      },
      py::arg("source"), py::kw_only(), py::arg("clusters"), py::arg("iterations"),
      py::arg("memory_weight"), py::arg("sketch"), py::arg("parameters"), py::arg("balanced"),
      py::arg("max_memory"), py::arg("seed"), py::arg("start"), py::arg("memory"));
  module.def(
      "cluster_rows",
      [](const at::Tensor& rows, int64_t clusters, int64_t sweeps, uint64_t seed) {
        const py::gil_scoped_release no_gil;
        at::Generator generator = at::detail::createCPUGenerator(seed);
        auto moved = descend_rows(rows, clusters, sweeps, generator);
        return std::pair(moved.assignments, moved.history);
      },
      py::arg("rows"), py::kw_only(), py::arg("clusters"), py::arg("sweeps"), py::arg("seed"));

  py::class_<Stratum>(module, "Stratum")
      .def_readonly("members", &Stratum::members)
      .def_readonly("draws", &Stratum::draws)
      .def_readonly("weight", &Stratum::weight);
  py::class_<SamplingDesign>(module, "SamplingDesign")
      .def_readonly("strata", &SamplingDesign::strata)
      .def(
          "draw",
          [](const SamplingDesign& design, at::Generator generator) {
            const auto batch = design.draw(generator);
            return std::pair(batch.indices, batch.weights);
          },
          py::arg("generator"));
  module.def(
      "stratified_design",
      [](const Clustering& clustering, int64_t draws, bool replacement,
         const std::string& allocation) {
        return stratified_design(clustering, draws, replacement, allocation_by_name(allocation));
      },
      py::arg("clustering"), py::kw_only(), py::arg("draws"), py::arg("replacement"),
      py::arg("allocation"));
}

void bind_moments(py::module_& module) {
  py::class_<Moments>(
      module, "Moments",
      "Moments of one gradient estimator at its own batch size; undefined values are NaN.")
      .def_readonly("trace_covariance", &Moments::trace_covariance)
      .def_readonly("average_variance", &Moments::average_variance)
      .def_readonly("normalized_variance", &Moments::normalized_variance)
      .def_readonly("noise_ratio", &Moments::noise_ratio)
      .def_readonly("noise_to_signal", &Moments::noise_to_signal)
      .def_readonly("mean_squared_norm", &Moments::mean_squared_norm)
      .def_readonly("bias_squared", &Moments::bias_squared)
      .def_readonly("mse", &Moments::mse)
      .def_readonly("zero_coordinates", &Moments::zero_coordinates)
      .def_property_readonly("interval",
                             [](const Moments& moments) {
                               return std::pair(moments.interval_low, moments.interval_high);
                             })
      .def_readonly("variance_ratio", &Moments::variance_ratio)
      .def_property_readonly("variance_ratio_interval",
                             [](const Moments& moments) {
                               return std::pair(moments.variance_ratio_low,
                                                moments.variance_ratio_high);
                             })
      .def_readonly("layer_average_variance", &Moments::layer_average_variance)
      .def_readonly("variance", &Moments::variance)
      .def_readonly("gradient_evaluations", &Moments::gradient_evaluations)
      .def_readonly("seconds", &Moments::seconds);

  py::class_<Measurement>(module, "Measurement")
      .def_readonly("moments", &Measurement::moments)
      .def_readonly("full_gradient", &Measurement::full_gradient)
      .def_readonly("squared_gradient_norm", &Measurement::squared_gradient_norm)
      .def_readonly("squared_norms", &Measurement::squared_norms)
      .def_readonly("mean_loss", &Measurement::mean_loss);
}

}  // namespace

void bind_measurement(py::module_& module) {
  bind_clustering(module);
  bind_moments(module);
  module.def("estimator_names", &estimator_names);
  module.def(
      "measure",
      [](const py::object& source, const std::vector<std::string>& estimators, int64_t batch_size,
         bool replacement, int64_t clusters, const std::string& allocation, double importance_mix,
         int64_t gc_iterations, const std::string& method, int64_t examples, int64_t draws,
         bool per_coordinate, int64_t max_memory, const std::optional<ParameterList>& snapshot,
         const std::optional<Clustering>& clustering, uint64_t seed) {
        const EstimatorOptions estimator_options{.batch_size = batch_size,
                                                 .replacement = replacement,
                                                 .clusters = clusters,
                                                 .allocation = allocation_by_name(allocation),
                                                 .importance_mix = importance_mix,
                                                 .gc_iterations = gc_iterations,
                                                 .max_memory = max_memory};
        const MeasureOptions measure_options{.mode = mode_by_name(method),
                                             .examples = examples,
                                             .draws = draws,
                                             .per_coordinate = per_coordinate,
                                             .max_memory = max_memory};
        return measure_source(source, estimators, estimator_options, measure_options, snapshot,
                              clustering, seed);
      },
      py::arg("source"), py::arg("estimators"), py::kw_only(), py::arg("batch_size"),
      py::arg("replacement"), py::arg("clusters"), py::arg("allocation"), py::arg("importance_mix"),
      py::arg("gc_iterations"), py::arg("method"), py::arg("examples"), py::arg("draws"),
      py::arg("per_coordinate"), py::arg("max_memory"), py::arg("snapshot"), py::arg("clustering"),
      py::arg("seed"));
}

}  // namespace gradist::python
