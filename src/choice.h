#pragma once

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <string>
#include <vector>

namespace gradist {

/// The value of an enum whose values have these `names`, in order from 0. Anything else is refused,
/// by the option's name.
template <class Enum>
Enum choice_by_name(const char* option, const std::vector<std::string>& names,
                    const std::string& name) {
  const auto found = std::find(names.begin(), names.end(), name);
  TORCH_CHECK_VALUE(found != names.end(), option, " = ", name, ", must be one of ",
                    c10::Join(", ", names));
  return static_cast<Enum>(found - names.begin());
}

}  // namespace gradist
