#include "gradients/layer_use.h"

#include <ATen/Parallel.h>
#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>

#include <utility>

namespace gradist {
namespace {

/// "[128, 784]"; it is asked for in every pass, and streams are slow.
std::string sizes_of(const at::Tensor& tensor) {
  std::string text;
  for (const auto size : tensor.sizes()) {
    text += (text.empty() ? "[" : ", ") + std::to_string(size);
  }
  return text + "]";
}

}  // namespace

NormsAndSum reduced(const FactoredGradients& gradients) {
  auto [squared_norms, sum] = gradients.squared_norms_and_sum();
  return {std::move(squared_norms), std::move(sum), gradients.method(), ""};
}

LayerUse::LayerUse(const at::Tensor& input, std::string name)
    : graph_input_(input),
      input_(input.detach()),
      name_(std::move(name)),
      input_version_(input._version()) {}

void LayerUse::add_parameter(const at::Tensor& tensor, Role role) {
  if (tensor.defined() && tensor.requires_grad()) {
    parameters_.push_back({tensor, role});
  }
}

bool LayerUse::fits(const BatchLayout& layout) const {
  return layout.sequence_first ? input_.dim() >= 3 && input_.size(1) == layout.examples
                               : input_.dim() >= 1 && input_.size(0) == layout.examples;
}

void LayerUse::own_input(const std::vector<at::Tensor>& shared) {
  for (const auto& each : shared) {
    if (input_.defined() && input_.is_alias_of(each)) {
      input_ = input().clone();
      input_version_ = input_._version();
      return;
    }
  }
}

void LayerUse::release() {
  input_.reset();
  released_ = true;
}

const at::Tensor& LayerUse::input() const {
  TORCH_CHECK_VALUE(input_._version() == input_version_, "the input of ", name_,
                    " was changed in place after the layer had read it");
  return input_;
}

at::Tensor LayerUse::input_by_example(const at::Tensor& backprops) const {
  const auto& read = input();
  return by_example(read.is_floating_point() ? read.to(backprops.scalar_type()) : read);
}

at::Tensor LayerUse::by_example(const at::Tensor& values) const {
  const auto ordered = layout_.sequence_first ? values.transpose(0, 1) : values;
  const auto type = ordered.scalar_type();
  return type == at::kHalf || type == at::kBFloat16 ? ordered.to(at::kFloat) : ordered;
}

std::string LayerUse::describe(const std::string& layer, const at::Tensor& input,
                               const at::Tensor& backprops) {
  auto text = layer + " " + sizes_of(input) + " -> " + sizes_of(backprops) + " " +
              c10::toString(backprops.scalar_type()) + " " +
              c10::DeviceTypeName(backprops.device().type(), /*lower_case=*/true);
  if (backprops.is_cpu()) {
    text += ", " + std::to_string(at::get_num_threads()) + " threads";
  }
  return text;
}

NormsAndSum LayerUse::norms_and_sum(const Parameter& parameter, const at::Tensor& backprops,
                                    MethodChoices& /*choices*/) const {
  return reduced(gradients(parameter, backprops));
}

std::vector<NormsAndSum> LayerUse::norms_and_sums(const at::Tensor& backprops,
                                                  MethodChoices& choices) const {
  std::vector<NormsAndSum> found;
  for (const auto& each : parameters_) {
    found.push_back(norms_and_sum(each, backprops, choices));
  }
  return found;
}

}  // namespace gradist
