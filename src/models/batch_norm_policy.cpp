#include "models/batch_norm_policy.h"

#include "choice.h"

namespace gradist {

const std::vector<std::string>& batch_norm_policy_names() {
  static const std::vector<std::string> names = {"eval", "reset", "train"};
  return names;
}

BatchNormPolicy batch_norm_policy_by_name(const std::string& name) {
  return choice_by_name<BatchNormPolicy>("batch-norm", batch_norm_policy_names(), name);
}

}  // namespace gradist
