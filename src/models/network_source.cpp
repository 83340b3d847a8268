#include "models/network_source.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <utility>

namespace gradist {
namespace {

constexpr int64_t kEvaluationChunk = 1024;

void check_loss_fits(Loss loss, double label_smoothing, const Dataset& data) {
  TORCH_CHECK_VALUE(label_smoothing >= 0 && label_smoothing <= 1,
                    "label-smoothing = ", label_smoothing, ", must lie in [0, 1]");
  TORCH_CHECK_VALUE(loss == Loss::kCrossEntropy || label_smoothing == 0,
                    "label-smoothing = ", label_smoothing, ", must be 0 for half squared error");
  TORCH_CHECK_VALUE(loss == Loss::kHalfSquaredError || data.classes > 0, data.name,
                    ": targets are numbers, cross entropy must have classes");
}

}  // namespace

NetworkSource::NetworkSource(std::shared_ptr<Network> network, Dataset data, Loss loss,
                             double label_smoothing, const Randomness& randomness,
                             BatchNormPolicy batch_norm)
    : network_(std::move(network)),
      data_(std::move(data)),
      loss_(loss),
      label_smoothing_(label_smoothing),
      randomness_(randomness),
      batch_norm_(batch_norm),
      statistics_(network_->buffers()) {
  check_loss_fits(loss_, label_smoothing_, data_);
  check_augmentation(randomness_.augmentation, data_.example_shape(), data_.sparse());
  for (const auto& module : network_->modules(/*include_self=*/false)) {
    if (auto* dropout = module->as<DropoutLayer>()) dropouts_.push_back(dropout);
  }
  for (const auto& parameter : network_->named_parameters()) {
    if (!parameter.value().requires_grad()) continue;
    names_.push_back(parameter.key());
    parameters_.push_back(parameter.value());
  }
}

at::Tensor NetworkSource::losses(const at::Tensor& outputs, const at::Tensor& targets) const {
  return example_losses(loss_, outputs, targets, label_smoothing_);
}

SourceState NetworkSource::state() const {
  SourceState state;
  state.key = key_;
  if (batch_norm_ != BatchNormPolicy::kTrain) {
    for (const auto& statistic : statistics_) state.statistics.push_back(statistic.clone());
  }
  return state;
}

void NetworkSource::restore(const SourceState& state) {
  key_ = state.key;
  for (size_t l = 0; l < state.statistics.size(); ++l) {
    statistics_.at(l).copy_(state.statistics[l]);
  }
}

void NetworkSource::set_masks(const at::Tensor& rows) {
  const DropoutMasks masks{rows, randomness_.dropout_seed, key_};
  for (size_t l = 0; l < dropouts_.size(); ++l) dropouts_[l]->set_masks(masks, l);
}

at::Tensor NetworkSource::outputs_of(const at::Tensor& rows, Tape* tape) {
  const at::Tensor inputs = augmented(data_.input_rows(rows), rows, randomness_.augmentation,
                                      randomness_.transform_seed, key_);
  if (dropouts_.empty()) return network_->forward(inputs, tape);
  set_masks(rows.to(at::kCPU));
  at::Tensor outputs = network_->forward(inputs, tape);
  set_masks({});  // a forward pass of anyone else's drops nothing
  return outputs;
}

GradientBatch NetworkSource::gradients(const at::Tensor& indices) {
  c10::AutoGradMode with_gradients(true);
  at::Tensor rows = indices.to(data_.targets.device());
  at::Tensor targets = data_.targets.index_select(0, rows);
  auto loss_of_example = [&](int64_t i) {
    return losses(outputs_of(rows.narrow(0, i, 1)), targets.narrow(0, i, 1)).squeeze(0);
  };
  Tape tape;
  at::Tensor outputs = outputs_of(rows, &tape);
  GradientBatch batch = tape.backward(losses(outputs, targets), parameters_, loss_of_example);
  batch.outputs = outputs.detach();
  return batch;
}

ParameterList NetworkSource::weighted_gradient(const at::Tensor& indices,
                                               const at::Tensor& weights) {
  c10::AutoGradMode with_gradients(true);
  at::Tensor rows = indices.to(data_.targets.device());
  at::Tensor outputs = outputs_of(rows);
  at::Tensor each = losses(outputs, data_.targets.index_select(0, rows));
  ParameterList gradient =
      torch::autograd::grad({(weights.to(each.options()) * each).sum()}, parameters_, {},
                            /*retain_graph=*/false, /*create_graph=*/false,
                            /*allow_unused=*/true);
  for (size_t l = 0; l < gradient.size(); ++l) {
    if (!gradient[l].defined()) gradient[l] = at::zeros_like(parameters_[l]);
  }
  return gradient;
}

Evaluation NetworkSource::evaluate(const Dataset& data) const {
  c10::NoGradGuard without_gradients;
  double loss_sum = 0;
  int64_t correct = 0;
  for (int64_t begin = 0; begin < data.size(); begin += kEvaluationChunk) {
    int64_t count = std::min(kEvaluationChunk, data.size() - begin);
    at::Tensor targets = data.targets.narrow(0, begin, count);
    at::Tensor outputs = network_->forward(data.input_range(begin, count));
    loss_sum += losses(outputs, targets).sum(at::kDouble).item<double>();
    if (data.classes > 0) correct += count_correct(outputs, targets);
  }
  auto size = static_cast<double>(data.size());
  Evaluation result{.loss = loss_sum / size};
  if (data.classes > 0) result.accuracy = static_cast<double>(correct) / size;
  return result;
}

}  // namespace gradist
