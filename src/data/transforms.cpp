#include "data/transforms.h"

#include "data/input_scale.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <tuple>

namespace gradist {
namespace {

InputScale scale_of(const Dataset& data) {
  if (data.stored) return data.stored->source->scale(data.tabular);
  return gradist::scale_of(data.inputs.sizes(), data.tabular, [&](int64_t begin, int64_t count) {
    return data.inputs.narrow(0, begin, count);
  });
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
  const InputScale scale = scale_of(split.train);
  for (Dataset* data : {&split.train, &split.test}) {
    if (data->stored) {
      data->stored->scale = scale;
    } else {
      scale.apply(data->inputs);
    }
  }
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
