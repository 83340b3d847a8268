#pragma once

#include "gc/clustering.h"
#include "gc/lloyd.h"
#include "gc/sampling_design.h"
#include "gradients/gradient_source.h"

#include <ATen/core/Generator.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gradist {

/// The parameters theta~ at a refresh and what SVRG keeps of them.
struct Snapshot {
  ParameterList parameters;  ///< theta~
  SourceState state;         ///< of the source there: g~_i has the transform of the refresh
  ParameterList gradient;    ///< g~ = (1/N) sum_i g~_i, float64
  ParameterList squares;     ///< sum_i g~_ij^2 per coordinate, float64
  double squared_norms = 0;  ///< sum_i ||g~_i||^2; both only where examples separate
  at::Tensor order;          ///< [N], of the pass by minibatches where they do not; else undefined
};

/// While it lives, the source is as it was at the snapshot, parameters and state; then all comes
/// back untouched, bit for bit. So batch norm's running statistics are reset after an evaluation at
/// the snapshot [Defazio19], but for a source whose state has none (BatchNormPolicy::kTrain).
class AtSnapshot {
 public:
  AtSnapshot(GradientSource& source, const Snapshot& snapshot)
      : source_(source), state_(source.state()), parameters_(source, snapshot.parameters) {
    source.restore(snapshot.state);
  }
  ~AtSnapshot() { source_.restore(state_); }
  AtSnapshot(const AtSnapshot&) = delete;
  AtSnapshot& operator=(const AtSnapshot&) = delete;

 private:
  GradientSource& source_;
  SourceState state_;
  ParameterSwap parameters_;
};

/// An estimator of the full gradient g = (1/N) sum_i g_i, [Faghri20] section 4.
///
/// Split so that randomness and arithmetic never meet: `design` says how examples are drawn, `draw`
/// makes one draw of it, `estimate` is a pure function of the draw. Then tests can enumerate every
/// draw of a tiny problem: its expectation is the full gradient, its variance is what `measure`
/// says (measurement.h), both to 1e-12.
///
/// Every estimator here is  sum_i w_i (g_i - h_i) + h  with h_i = 0, or h_i = g~_i for one with a
/// snapshot; so its exact variance follows from the design and, per stratum, the variance of g_i -
/// h_i (docs/measuring.md).
class GradientEstimator {
 public:
  virtual ~GradientEstimator() = default;

  virtual std::string name() const = 0;

  /// What the full pass at refresh makes: snapshot or clusters. Nothing for plain minibatches.
  /// `generator` is the measuring one. Returns the single-example gradients spent.
  virtual int64_t refresh(GradientSource& /*source*/, at::Generator& /*generator*/) { return 0; }

  /// How examples are drawn; valid after the first refresh.
  virtual const SamplingDesign& design() const = 0;

  /// The control variate's parameters; null for estimators without.
  virtual const Snapshot* snapshot() const { return nullptr; }

  /// The clusters; null for estimators without.
  virtual const Clustering* clustering() const { return nullptr; }

  /// All the randomness.
  WeightedBatch draw(at::Generator& generator) const { return design().draw(generator); }

  /// sum_i w_i g_i, or sum_i w_i (g_i - g~_i) + g~ with a snapshot. Same shapes and dtype as the
  /// parameters.
  ParameterList estimate(GradientSource& source, const WeightedBatch& batch) const;

  /// The same, given `plain` = sum_i w_i g_i.
  ParameterList corrected(GradientSource& source, const WeightedBatch& batch,
                          ParameterList plain) const;

  /// Single-example gradients that one estimate costs.
  int64_t cost_per_draw() const;
};

/// What every estimator may be told.
struct EstimatorOptions {
  int64_t batch_size = 128;                           ///< B
  bool replacement = true;                            ///< draws with replacement
  int64_t clusters = 0;                               ///< K; 0: K = B
  Allocation allocation = Allocation::kProportional;  ///< b_k where K < B
  bool balanced = false;                              ///< clusters of equal size
  double importance_mix = 0.25;  ///< uniform part of draws by norms, see with_importance
  double gc_memory = 4;          ///< weight of the former refresh in gc-descent, see DescentOptions
  int64_t gc_sketch = 16;        ///< side of gc-descent's sketches, see DescentOptions
  int64_t gc_iterations = 10;    ///< a refresh: A + U steps of gc, sweeps of gc-descent
  LloydSteps gc_steps = {};      ///< how gc makes its A and U steps
  std::vector<std::string> gc_parameters = {};  ///< patterns of those that clustering compares; all
  int64_t max_memory = 0;                       ///< bytes for the factors of a chunk; 0: 256 MiB
};

/// The names `make_estimator` knows, in the order they are shown: sg-b, sg-2b, svrg, gc,
/// gc-descent, gc-importance, sg-importance.
const std::vector<std::string>& estimator_names();

/// An estimator by name for a source of N examples. Unknown names and options that cannot hold for
/// N are refused.
std::unique_ptr<GradientEstimator> make_estimator(const std::string& name,
                                                  const EstimatorOptions& options,
                                                  int64_t examples);

}  // namespace gradist
