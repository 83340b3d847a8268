#include "data/transforms.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <tuple>

namespace gradist {
namespace {

constexpr int64_t kImageDimensions = 4;  // [N, C, H, W]

/// Mean and deviation shaped to broadcast over the inputs.
std::tuple<at::Tensor, at::Tensor> mean_and_deviation(const Dataset& data) {
  const at::Tensor& inputs = data.inputs;
  if (data.tabular) {
    auto [variance, mean] =
        at::var_mean(inputs.to(at::kDouble), at::IntArrayRef{0}, /*unbiased=*/false);
    return {mean.to(at::kFloat), variance.sqrt().to(at::kFloat)};
  }
  if (inputs.dim() != kImageDimensions) {
    auto [variance, mean] = at::var_mean(inputs, /*unbiased=*/false);
    return {mean, variance.sqrt()};
  }
  std::vector<at::Tensor> means, deviations;
  for (const at::Tensor& channel : inputs.unbind(1)) {
    auto [variance, mean] = at::var_mean(channel, /*unbiased=*/false);
    means.push_back(mean);
    deviations.push_back(variance.sqrt());
  }
  return {at::stack(means).view({-1, 1, 1}), at::stack(deviations).view({-1, 1, 1})};
}

/// Numeric targets as the inputs' columns.
void standardize_targets(DataSplit& split) {
  auto [variance, mean] =
      at::var_mean(split.train.targets.to(at::kDouble), at::IntArrayRef{0}, /*unbiased=*/false);
  const auto center = mean.item<double>(), deviation = std::sqrt(variance.item<double>());
  for (Dataset* data : {&split.train, &split.test}) {
    data->targets =
        ((data->targets.to(at::kDouble) - center) / (deviation > 0 ? deviation : 1)).to(at::kFloat);
  }
}

/// The examples `rows` in place of all.
void take_rows(Dataset& data, const at::Tensor& rows) {
  if (data.stored) {
    auto& stored = data.stored->rows;
    stored = stored.defined() ? stored.index_select(0, rows) : rows;
  } else {
    data.inputs = data.input_rows(rows);
  }
  data.targets = data.targets.index_select(0, rows);
}

int64_t count_of(double fraction, int64_t size) {
  return std::llround(fraction * static_cast<double>(size));
}

}  // namespace

void standardize(DataSplit& split) {
  if (split.train.sparse()) return;
  auto [mean, deviation] = mean_and_deviation(split.train);
  deviation = at::where(deviation == 0, at::ones_like(deviation), deviation);
  for (Dataset* data : {&split.train, &split.test}) data->inputs.sub_(mean).div_(deviation);
  if (split.train.tabular && split.train.classes == 0) standardize_targets(split);
}

void take_examples(Dataset& train, int64_t examples, at::Generator& generator) {
  validate_examples(examples);
  TORCH_CHECK_VALUE(examples <= train.size(), "train-examples = ", examples,
                    ", must be <= ", train.size(), ", the number of training examples");
  if (examples == 0 || examples == train.size()) return;
  const at::Tensor order = at::randperm(train.size(), generator, at::kLong);
  take_rows(train, std::get<0>(order.slice(0, 0, examples).sort()));
}

void validate_examples(int64_t examples) {
  TORCH_CHECK_VALUE(examples >= 0, "train-examples = ", examples, ", must be >= 0");
}

void validate_label_corruption(double fraction) {
  TORCH_CHECK_VALUE(fraction >= 0 && fraction <= 1, "label-corruption = ", fraction,
                    ", must lie in [0, 1]");
}

void corrupt_labels(Dataset& train, double fraction, at::Generator& generator) {
  validate_label_corruption(fraction);
  int64_t count = count_of(fraction, train.size());
  if (count == 0) return;
  TORCH_CHECK_VALUE(train.classes >= 2, "label-corruption = ", fraction, ", must be 0 for data of ",
                    train.classes, " classes: there is no other class to change to");
  at::Tensor chosen = at::randperm(train.size(), generator, at::kLong).slice(0, 0, count);
  at::Tensor shift = at::randint(1, train.classes, {count}, generator, at::kLong);
  at::Tensor changed = (train.targets.index_select(0, chosen) + shift).remainder(train.classes);
  train.targets.index_copy_(0, chosen, changed);
}

void validate_duplicates(int64_t points, double fraction) {
  TORCH_CHECK_VALUE(fraction >= 0 && fraction <= 1, "duplicates = ", points, ",", fraction,
                    ", the fraction must lie in [0, 1]");
  TORCH_CHECK_VALUE(points >= 0, "duplicates = ", points, ",", fraction,
                    ", the number of points must be >= 0");
  TORCH_CHECK_VALUE((points > 0) == (fraction > 0), "duplicates = ", points, ",", fraction,
                    ", points and fraction must both be > 0, or both be 0 for none");
}

void duplicate_points(Dataset& train, int64_t points, double fraction, at::Generator& generator) {
  validate_duplicates(points, fraction);
  if (points == 0) return;
  int64_t places = count_of(fraction, train.size());
  TORCH_CHECK_VALUE(points <= places, "duplicates = ", points, ",", fraction,
                    ", the points must be no more than the ", places, " of ", train.size(),
                    " examples that they are to make up");
  at::Tensor order = at::randperm(train.size(), generator, at::kLong);
  at::Tensor overwritten = order.slice(0, points, places);
  at::Tensor source =
      order.index_select(0, at::arange(points, places, at::kLong).remainder(points));
  at::Tensor rows = at::arange(train.size());
  rows.index_copy_(0, overwritten, source);
  take_rows(train, rows);
}

}  // namespace gradist
