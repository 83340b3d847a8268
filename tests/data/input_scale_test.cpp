#include "data/input_scale.h"

#include "support/problems.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using test::same_bits;
using test::tensor_near;

InputScale scale_of(const at::Tensor& inputs, bool by_feature) {
  return gradist::scale_of(inputs.sizes(), by_feature, [&](int64_t begin, int64_t count) {
    return inputs.narrow(0, begin, count);
  });
}

/// Against mean and deviation in two passes over all numbers in float64.
void expect_oracle(const at::Tensor& inputs, bool by_feature, const std::vector<int64_t>& shared) {
  const at::Tensor x = inputs.to(at::kDouble);
  const at::Tensor mean = x.mean(shared, true);
  const at::Tensor deviation = (x - mean).square().mean(shared, true).sqrt();
  const InputScale scale = scale_of(inputs, by_feature);
  // One rounding to float32, 2^-24 of the number.
  EXPECT_TRUE(tensor_near(scale.mean.to(at::kDouble), mean.squeeze(0), 6.1e-8));
  EXPECT_TRUE(tensor_near(scale.deviation.to(at::kDouble), deviation.squeeze(0), 6.1e-8));
  at::Tensor standardized = inputs.clone();
  scale.apply(standardized);
  EXPECT_TRUE(same_bits(standardized, (inputs - scale.mean) / scale.deviation));
}

/// Far from zero, as years are; piece after piece at another height.
at::Tensor numbers(const std::vector<int64_t>& sizes) {
  at::Tensor x = at::randn(sizes, test::generator_of(5), at::kFloat);
  std::vector<int64_t> first(sizes.size(), 1);
  first[0] = sizes[0];
  return x.mul_(10).add_(2000).add_(at::arange(sizes[0], at::kFloat).div_(1000).view(first));
}

TEST(InputScale, IsOfEachColumnOfATable) {
  // More than two pieces of 2^20 numbers.
  expect_oracle(numbers({300000, 7}), /*by_feature=*/true, {0});
}

TEST(InputScale, IsOfEachChannelOfImages) {
  expect_oracle(numbers({700, 3, 40, 30}), /*by_feature=*/false, {0, 2, 3});
}

TEST(InputScale, IsOfAllOtherwise) {
  const at::Tensor x = numbers({3000, 64});
  expect_oracle(x, /*by_feature=*/false, {0, 1});
}

TEST(InputScale, DividesConstantColumnsByOne) {
  at::Tensor x = numbers({400000, 3});
  x.select(1, 1).fill_(0.1F);
  const InputScale scale = scale_of(x, /*by_feature=*/true);
  EXPECT_EQ(scale.mean[1].item<float>(), 0.1F);
  EXPECT_EQ(scale.deviation[1].item<float>(), 1);
}

TEST(InputScale, LeavesInputsAloneWhereThereIsNone) {
  at::Tensor x = numbers({4, 3});
  const at::Tensor before = x.clone();
  InputScale{}.apply(x);
  EXPECT_TRUE(same_bits(x, before));
}

}  // namespace
}  // namespace gradist
