#pragma once

#include "rf/clustering.h"
#include "rf/philox.h"
#include "rf/problem.h"

#include <cstdint>
#include <string>
#include <vector>

namespace gradist::rf {

/// The estimators of a sweep, as `--estimator` names them.
enum class EstimatorKind { kSgB, kSg2B, kSvrg, kGc, kGcDescent, kSgImportance };

const std::vector<std::string>& estimator_names();
EstimatorKind estimator_by_name(const std::string& name);

/// What the last refresh of an estimator made; one of the three, or none.
struct EstimatorState {
  EstimatorKind kind = EstimatorKind::kSgB;
  std::vector<double> snapshot_residuals;  ///< svrg: r~_i, [N]
  Partition clusters;                      ///< gc, gc-descent
  std::vector<double> probabilities;       ///< sg-importance: p_i, [N], their sum is 1
};

struct RefreshOptions {
  int64_t clusters = 10;        ///< K
  int64_t gc_iterations = 10;   ///< A + U steps of gc, sweeps of gc-descent
  double importance_mix = 0.1;  ///< p_i = (1 - mix) ||g_i|| / sum ||g_j|| + mix / N
};

/// The refresh of an estimator where the readout has these residuals.
template <class T>
EstimatorState refreshed(EstimatorKind kind, const Problem<T>& problem,
                         const std::vector<double>& residuals, const std::vector<double>& row_norms,
                         const RefreshOptions& options, Words random);

}  // namespace gradist::rf
