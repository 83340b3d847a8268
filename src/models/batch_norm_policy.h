#pragma once

#include <string>
#include <vector>

namespace gradist {

/// How a network with batch norm is evaluated where it is measured, and what becomes of the running
/// statistics where it is evaluated at a snapshot. [Defazio19] section 2
enum class BatchNormPolicy {
  kEval,   ///< by the running statistics; at the snapshot by those it had there: examples separate
  kReset,  ///< by the batch, as in training; running statistics are put back after an evaluation at
           ///< the snapshot
  kTrain   ///< by the batch, and the running statistics average over both points: the naive way,
           ///< by which the network that is tested goes astray
};

/// Names that the option `batch-norm` takes: eval, reset, train.
const std::vector<std::string>& batch_norm_policy_names();
BatchNormPolicy batch_norm_policy_by_name(const std::string& name);

}  // namespace gradist
