#include "models/activation.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

namespace gradist {
namespace {

struct NamedActivation {
  const char* name;
  Activation activation;
};

constexpr NamedActivation kActivations[] = {
    {"relu", [](const at::Tensor& x) { return at::relu(x); }},
    {"elu", [](const at::Tensor& x) { return at::elu(x); }},
};

}  // namespace

const std::vector<std::string>& activation_names() {
  static const auto names = [] {
    std::vector<std::string> list;
    for (const auto& row : kActivations) list.emplace_back(row.name);
    return list;
  }();
  return names;
}

Activation activation(const std::string& name) {
  for (const auto& row : kActivations) {
    if (name == row.name) return row.activation;
  }
  TORCH_CHECK_VALUE(false, "activation = ", name, ", must be one of ",
                    c10::Join(", ", activation_names()));
}

}  // namespace gradist
