#include "gradients/partial_source.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <fnmatch.h>

#include <algorithm>

namespace gradist {
namespace {

bool matches(const std::string& pattern, const std::string& name) {
  return fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
}

/// Whether each name matches, which one must.
std::vector<bool> matched(const std::vector<std::string>& names, const std::string& pattern,
                          const std::string& shown) {
  std::vector<bool> result;
  for (const auto& name : names) {
    result.push_back(matches(pattern, name));
  }
  TORCH_CHECK_VALUE(std::find(result.begin(), result.end(), true) != result.end(),
                    "gc-parameters = ", shown, ": must match a parameter, such as ", names.front());
  return result;
}

template <class T>
std::vector<T> picked(const std::vector<T>& list, const std::vector<size_t>& positions) {
  std::vector<T> result;
  for (const auto position : positions) {
    result.push_back(list[position]);
  }
  return result;
}

}  // namespace

std::vector<size_t> chosen_parameters(const std::vector<std::string>& names,
                                      const std::vector<std::string>& patterns) {
  const auto leaves_out = [](const std::string& pattern) { return pattern.rfind('!', 0) == 0; };
  std::vector<bool> chosen(names.size(), std::all_of(patterns.begin(), patterns.end(), leaves_out));
  for (const bool out : {false, true}) {
    for (const auto& pattern : patterns) {
      if (leaves_out(pattern) == out) {
        const auto found = matched(names, pattern.substr(out ? 1 : 0), pattern);
        for (size_t l = 0; l < names.size(); ++l) {
          chosen[l] = found[l] ? !out : chosen[l];
        }
      }
    }
  }
  std::vector<size_t> positions;
  for (size_t l = 0; l < names.size(); ++l) {
    if (chosen[l]) {
      positions.push_back(l);
    }
  }
  TORCH_CHECK_VALUE(!positions.empty(), "gc-parameters = ", c10::Join(",", patterns),
                    ": must leave at least one parameter");
  return positions;
}

PartialSource::PartialSource(GradientSource& source, const std::vector<std::string>& patterns)
    : source_(source),
      chosen_(chosen_parameters(source.parameter_names(), patterns)),
      parameters_(picked(source.parameters(), chosen_)),
      names_(picked(source.parameter_names(), chosen_)) {}

GradientBatch PartialSource::gradients(const at::Tensor& indices) {
  auto batch = source_.gradients(indices);
  batch.parameters = picked(batch.parameters, chosen_);
  return batch;
}

ParameterList PartialSource::weighted_gradient(const at::Tensor& indices,
                                               const at::Tensor& weights) {
  return picked(source_.weighted_gradient(indices, weights), chosen_);
}

}  // namespace gradist
