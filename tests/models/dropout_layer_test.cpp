#include "models/dropout_layer.h"

#include "models/network_source.h"
#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

#include <cmath>

namespace gradist {
namespace {

using test::normal;
using test::same_bits;
using test::tensor_near;

const at::Tensor kRows = at::tensor({5, 1, 1, 9}, at::kLong);

at::Tensor dropped(const at::Tensor& input, const DropoutMasks& masks, uint64_t number = 0,
                   double probability = 0.25) {
  DropoutLayer layer(probability, input.size(1));
  layer.set_masks(masks, number);
  return layer.forward(input, nullptr);
}

TEST(DropoutLayer, MasksBelongToExampleKeyAndLayer) {
  const at::Tensor ones = at::ones({4, 100}, at::kDouble);
  const at::Tensor together = dropped(ones, {kRows, 7, 2});
  EXPECT_TRUE(same_bits(together[1], together[2])) << "the same example twice";
  for (int64_t b = 0; b < 4; ++b) {
    EXPECT_TRUE(
        same_bits(dropped(ones.narrow(0, b, 1), {kRows.narrow(0, b, 1), 7, 2})[0], together[b]));
  }
  EXPECT_FALSE(same_bits(together[0], together[1]));
  EXPECT_FALSE(same_bits(dropped(ones, {kRows, 7, 3}), together)) << "another key";
  EXPECT_FALSE(same_bits(dropped(ones, {kRows, 8, 2}), together)) << "another seed";
  EXPECT_FALSE(same_bits(dropped(ones, {kRows, 7, 2}, 1), together)) << "another layer";
}

TEST(DropoutLayer, KeepsTheMean) {
  const at::Tensor rows = at::arange(2000, at::kLong);
  const at::Tensor output = dropped(at::ones({2000, 50}, at::kDouble), {rows, 7, 2});
  const at::Tensor kept = output > 0;
  EXPECT_TRUE(same_bits(output, kept.to(at::kDouble) * static_cast<double>(1 / 0.75F)));
  // 100,000 draws: five deviations of a share of 3/4.
  EXPECT_LT(std::abs(kept.to(at::kDouble).mean().item<double>() - 0.75),
            5 * std::sqrt(0.75 * 0.25 / 1e5));
}

TEST(DropoutLayer, IsNothingWithoutExamples) {
  const at::Tensor input = normal({3, 6}, 1);
  EXPECT_TRUE(same_bits(dropped(input, {}), input));
}

NetworkSource source_with_dropout(const std::string& model) {
  auto generator = test::generator_of(3);
  Dataset data{.inputs = normal({10, 1, 12, 12}, 4),
               .targets = at::randint(0, 3, {10}, generator, at::kLong),
               .classes = 3,
               .name = "random images"};
  ModelOptions options{.model = model, .hidden = {9, 8}, .dropout = 0.4};
  if (model != "mlp") options.width = 0.5;
  const auto network = make_network(options, data.example_shape(), 3, generator);
  network->to(at::kDouble);
  return {network,
          data,
          Loss::kCrossEntropy,
          0,
          {.augmentation = Augmentation::kCropFlip, .transform_seed = 5, .dropout_seed = 6}};
}

// The loss of an example is its own: its gradient is the same alone and among others.
TEST(DropoutLayer, LeavesExamplesSeparate) {
  for (const char* model : {"mlp", "lenet5", "resnet8"}) {
    NetworkSource source = source_with_dropout(model);
    source.set_key(4);
    ASSERT_TRUE(source.separable());
    const at::Tensor together = test::dense(source.gradients(kRows));
    for (int64_t b = 0; b < kRows.numel(); ++b) {
      const auto alone =
          source.weighted_gradient(kRows.narrow(0, b, 1), at::ones({1}, at::kDouble));
      EXPECT_TRUE(tensor_near(together[b], test::flatten(alone), 1e-10)) << model;
    }
    source.set_key(5);
    EXPECT_FALSE(same_bits(test::dense(source.gradients(kRows)), together)) << model;
    source.set_key(4);
    EXPECT_TRUE(same_bits(test::dense(source.gradients(kRows)), together)) << model;
  }
}

TEST(DropoutLayer, IsNotThereWhereLossesAreEvaluated) {
  NetworkSource source = source_with_dropout("mlp");
  const double before = source.evaluate(source.data()).loss;
  source.gradients(kRows);
  EXPECT_EQ(source.evaluate(source.data()).loss, before);
  const at::Tensor outputs = source.network().forward(source.data().inputs);
  EXPECT_TRUE(test::near(
      before,
      example_losses(Loss::kCrossEntropy, outputs, source.data().targets, 0).mean().item<double>(),
      1e-12));
}

}  // namespace
}  // namespace gradist
