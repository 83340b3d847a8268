#include "trajectory/norm_distribution.h"

#include "trajectory/parameter_hash.h"
#include "trajectory/statistics.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace gradist {
namespace {

TEST(NormDistributionTest, QuantilesAreLinearBetweenOrderStatistics) {
  const auto quantiles = norm_quantiles(at::arange(100, -1, -1, at::kDouble));
  ASSERT_EQ(quantiles.size(), 21U);
  for (int i = 0; i < kNormQuantiles; ++i) {
    EXPECT_NEAR(quantiles[i], 5 * i, 1e-12);
  }
  EXPECT_DOUBLE_EQ(norm_quantiles(at::tensor({1.0, 3.0}, at::kDouble))[10], 2.0);
}

TEST(NormDistributionTest, HistogramCountsEveryExampleOnce) {
  const auto edges = norm_histogram_edges();
  ASSERT_EQ(edges.size(), 65U);
  EXPECT_DOUBLE_EQ(edges.front(), 1e-16);
  EXPECT_DOUBLE_EQ(edges.back(), 1e16);
  const auto counts = norm_histogram(at::tensor({0.0, 1e-30, 1.0, 1.5, 1e300}, at::kDouble));
  EXPECT_EQ(counts.front(), 2);
  EXPECT_EQ(counts[32], 2) << "[1, 10^0.5)";
  EXPECT_EQ(counts.back(), 1);
  EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), 0.0), 5);
}

TEST(NormDistributionTest, TopPercentIsTheShareOfTheLargest) {
  at::Tensor norms = at::ones({200}, at::kDouble);
  norms.slice(0, 0, 2).fill_(99.0);
  EXPECT_DOUBLE_EQ(top_percent_share(norms), 0.5);
  EXPECT_DOUBLE_EQ(top_percent_share(at::ones({50}, at::kDouble)), 0.02) << "1 % of 50 is one";
  EXPECT_TRUE(std::isnan(top_percent_share(at::zeros({50}, at::kDouble))));
}

TEST(NormDistributionTest, IsUndefinedWithoutNorms) {
  for (const auto& numbers : {norm_quantiles(at::Tensor()), norm_histogram(at::Tensor())}) {
    EXPECT_TRUE(std::all_of(numbers.begin(), numbers.end(),
                            [](double value) { return std::isnan(value); }));
  }
}

TEST(ParameterHashTest, SeesEveryBitAndEveryTensor) {
  const at::Tensor weight = at::arange(7, at::kFloat);
  const uint64_t hash = parameter_hash({weight, weight});
  EXPECT_EQ(parameter_hash({weight.clone(), weight.clone()}), hash);
  EXPECT_NE(parameter_hash({weight}), hash);
  for (int64_t i = 0; i < weight.numel(); ++i) {
    at::Tensor changed = weight.clone();
    changed[i] = std::nextafter(changed[i].item<float>(), 100.0F);
    EXPECT_NE(parameter_hash({weight, changed}), hash);
  }
}

TEST(StatisticsTest, MedianLeavesOutWhatIsNoNumber) {
  const double nan = std::nan("");
  EXPECT_EQ(median({3, nan, 1, 2}), 2);
  EXPECT_EQ(median({4, 1}), 2.5);
  EXPECT_TRUE(std::isnan(median({nan})));
  EXPECT_EQ(quotients({1, 6}, {2, 3}), (std::vector<double>{0.5, 2}));
}

}  // namespace
}  // namespace gradist
