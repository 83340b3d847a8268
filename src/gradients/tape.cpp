#include "gradients/tape.h"

#include "gradients/one_by_one.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <utility>

namespace gradist {

/// One use of a layer: its input, and its backprops once the hook has run.
struct Tape::Record {
  at::Tensor weight, bias;  ///< the model's parameters, for identity only
  at::Tensor input;         ///< [B, ..., I], detached
  uint32_t input_version = 0;
  at::Tensor backprops;  ///< [B, ..., O]
};

namespace {

/// [B, ..., n] -> [B, S, n].
at::Tensor with_positions(const at::Tensor& values) {
  return values.reshape({values.size(0), -1, values.size(-1)});
}

FactoredGradients unused(const at::Tensor& parameter, int64_t examples) {
  auto zeros = at::zeros({1, 1}, parameter.options().requires_grad(false));
  return FactoredGradients::from_dense(zeros.expand({examples, parameter.numel()}),
                                       parameter.sizes().vec(), "unused");
}

FactoredGradients add_use(std::optional<FactoredGradients> former, FactoredGradients use) {
  return former ? former->joined(use) : std::move(use);
}

}  // namespace

Tape::Tape() = default;
Tape::~Tape() = default;

at::Tensor Tape::anchored_bias(const at::Tensor& weight, const at::Tensor& bias) {
  auto anchor = bias.defined() ? bias.detach().clone()
                               : at::zeros({weight.size(0)}, weight.detach().options());
  anchors_.push_back(anchor.requires_grad_(true));
  return anchors_.back();
}

at::Tensor Tape::linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias) {
  // A weight computed from parameters (a transpose, a mask) is none itself: left to autograd, so
  // that its parameters are found to be used outside the table.
  if (!weight.is_leaf() || (bias.defined() && !bias.is_leaf())) {
    return at::linear(input, weight, bias);
  }
  auto record = std::make_shared<Record>();
  record->weight = weight;
  record->bias = bias;
  record->input = input.detach();
  record->input_version = input._version();
  const auto output = at::linear(input, weight.detach(), anchored_bias(weight, bias));
  // The hook sees the gradient of this very value, also when a later operation changes `output` in
  // place.
  output.register_hook([record](const at::Tensor& backprops) {
    record->backprops = record->backprops.defined() ? record->backprops + backprops : backprops;
  });
  records_.push_back(std::move(record));
  return output;
}

GradientBatch Tape::backward(const at::Tensor& losses, const ParameterList& parameters,
                             const LossOfExample& loss_of_example) {
  TORCH_CHECK_VALUE(losses.dim() == 1,
                    "the loss must have one entry an example, [B] (reduction \"none\"), not shape ",
                    losses.sizes());
  const auto examples = losses.size(0);
  auto leaves = anchors_;
  leaves.insert(leaves.end(), parameters.begin(), parameters.end());
  // Gradients of the parameters are asked for only to learn which of them the model also uses
  // outside the table; autograd does no work for those it does not reach.
  torch::autograd::variable_list outside;
  if (losses.requires_grad()) {
    outside = torch::autograd::grad({losses.sum()}, leaves, {}, /*retain_graph=*/false,
                                    /*create_graph=*/false, /*allow_unused=*/true);
    outside.erase(outside.begin(), outside.begin() + static_cast<int64_t>(anchors_.size()));
  } else {
    outside.resize(parameters.size());
  }

  GradientBatch batch;
  batch.losses = losses.detach();
  std::vector<size_t> uncovered;
  for (size_t l = 0; l < parameters.size(); ++l) {
    std::optional<FactoredGradients> gradients;
    if (outside[l].defined()) {
      uncovered.push_back(l);
    } else {
      for (const auto& record : records_) {
        add_record(*record, parameters[l], gradients);
      }
    }
    batch.parameters.push_back(gradients ? *std::move(gradients) : unused(parameters[l], examples));
    TORCH_INTERNAL_ASSERT(batch.parameters.back().size() == examples);
  }
  if (!uncovered.empty()) {
    TORCH_CHECK_VALUE(loss_of_example, "parameter ", uncovered.front(),
                      " is used outside the layers with a rule, and no loss of a single example "
                      "was given to measure it");
    ParameterList remaining;
    for (const auto l : uncovered) {
      remaining.push_back(parameters[l]);
    }
    auto formed = one_by_one(loss_of_example, examples, remaining);
    for (size_t u = 0; u < uncovered.size(); ++u) {
      batch.parameters[uncovered[u]] = std::move(formed[u]);
    }
  }
  return batch;
}

/// Adds what one use of a layer contributes to `parameter`, if it is that layer's weight or bias.
void Tape::add_record(const Record& record, const at::Tensor& parameter,
                      std::optional<FactoredGradients>& gradients) {
  const bool is_weight = parameter.is_same(record.weight);
  const bool is_bias = record.bias.defined() && parameter.is_same(record.bias);
  if (!record.backprops.defined() || !(is_weight || is_bias)) {
    return;
  }
  const auto backprops = with_positions(record.backprops);
  if (is_weight) {
    TORCH_CHECK_VALUE(
        record.input._version() == record.input_version,
        "the input of a linear layer was changed in place after the layer had read it");
    gradients = add_use(std::move(gradients), {with_positions(record.input), backprops,
                                               parameter.sizes().vec(), "linear"});
  } else {
    gradients =
        add_use(std::move(gradients),
                FactoredGradients::from_dense(backprops.sum(1), parameter.sizes().vec(), "bias"));
  }
}

at::Tensor linear(Tape* tape, const at::Tensor& input, const at::Tensor& weight,
                  const at::Tensor& bias) {
  return tape != nullptr ? tape->linear(input, weight, bias) : at::linear(input, weight, bias);
}

}  // namespace gradist
