#include "models/batch_norm_policy.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>

namespace gradist {

const std::vector<std::string>& batch_norm_policy_names() {
  static const std::vector<std::string> names = {"eval", "reset", "train"};
  return names;
}

BatchNormPolicy batch_norm_policy_by_name(const std::string& name) {
  const auto& names = batch_norm_policy_names();
  const auto found = std::ranges::find(names, name);
  TORCH_CHECK_VALUE(found != names.end(), "batch-norm = ", name, ", must be one of ",
                    c10::Join(", ", names));
  return static_cast<BatchNormPolicy>(found - names.begin());
}

}  // namespace gradist
