#include "models/losses.h"

#include "support/tensor_near.h"

#include <ATen/ATen.h>

#include <cmath>

namespace gradist {
namespace {

using test::tensor_near;

const at::Tensor kOutputs = at::tensor({1.0, -2.0, 0.5, 0.0, 3.0, 3.0}, at::kDouble).view({2, 3});
const at::Tensor kClasses = at::tensor({2, 1}, at::kLong);

/// -sum_c q_c log softmax(y)_c, written out.
double cross_entropy(const std::vector<double>& y, const std::vector<double>& q) {
  double partition = 0, loss = 0;
  for (double value : y) partition += std::exp(value);
  for (size_t c = 0; c < y.size(); ++c) loss -= q[c] * (y[c] - std::log(partition));
  return loss;
}

TEST(Losses, CrossEntropyIsMinusLogOfTheSoftmax) {
  at::Tensor expected = at::tensor(
      {cross_entropy({1, -2, 0.5}, {0, 0, 1}), cross_entropy({0, 3, 3}, {0, 1, 0})}, at::kDouble);
  EXPECT_TRUE(
      tensor_near(example_losses(Loss::kCrossEntropy, kOutputs, kClasses), expected, 1e-14));
}

TEST(Losses, LabelSmoothingMixesWithTheUniform) {
  const double low = 0.3 / 3, high = 0.7 + low;
  at::Tensor expected = at::tensor(
      {cross_entropy({1, -2, 0.5}, {low, low, high}), cross_entropy({0, 3, 3}, {low, high, low})},
      at::kDouble);
  EXPECT_TRUE(
      tensor_near(example_losses(Loss::kCrossEntropy, kOutputs, kClasses, 0.3), expected, 1e-14));
}

TEST(Losses, HalfSquaredErrorOfNumbers) {
  at::Tensor outputs = at::tensor({1.0, -2.0}, at::kDouble).view({2, 1});
  at::Tensor targets = at::tensor({3.0, -1.0}, at::kDouble);
  EXPECT_TRUE(tensor_near(example_losses(Loss::kHalfSquaredError, outputs, targets),
                          at::tensor({2.0, 0.5}, at::kDouble), 0));
}

TEST(Losses, HalfSquaredErrorOfClassesIsToTheirOneHotVector) {
  // (1 + 4 + 0.25) / 2 and (0 + 4 + 9) / 2
  EXPECT_TRUE(tensor_near(example_losses(Loss::kHalfSquaredError, kOutputs, kClasses),
                          at::tensor({2.625, 6.5}, at::kDouble), 1e-15));
}

TEST(Losses, CountCorrectTakesTheLargestOutput) {
  at::Tensor outputs = at::tensor({1.0, 2.0, 5.0, 4.0, 0.0, -1.0}).view({3, 2});
  EXPECT_EQ(count_correct(outputs, at::tensor({1, 0, 0}, at::kLong)), 3);
  EXPECT_EQ(count_correct(outputs, at::tensor({1, 1, 1}, at::kLong)), 1);
}

}  // namespace
}  // namespace gradist
