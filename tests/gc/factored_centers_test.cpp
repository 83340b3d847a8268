#include "gc/factored_centers.h"

#include "gc/center_update.h"
#include "support/centers.h"
#include "support/factors.h"
#include "support/property.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using test::any_between;
using test::formed;
using test::normal;
using test::normal_factors;
using test::orthogonal_centers;
using test::same_bits;
using test::tensor_near;
using test::three_parameters;

RC_GTEST_PROP(FactoredCenters, DistancesAreThoseToTheFormedCenters, ()) {
  const auto batch = three_parameters(any_between(1, 6), any_between(1, 4),
                                      static_cast<uint64_t>(any_between(0, 999)));
  const auto centers = orthogonal_centers(batch, any_between(1, 7), any_between(1, 4), 2000);
  const auto expected =
      (test::dense(batch).unsqueeze(1) - formed(centers).unsqueeze(0)).square().sum(2);
  const auto distances = centers.squared_distances(batch, centers.squared_norms());
  RC_ASSERT(distances.scalar_type() == at::kDouble);
  const auto result = tensor_near(distances, expected, 1e-11);
  if (!result) RC_FAIL(result.message());
}

/// A layer whose gradients are compared with centers of some rank by the cheaper order: S positions
/// (1: a plain linear layer), I inputs or numbers of a patch, O outputs or planes.
struct OrderCase {
  int64_t positions, inputs, outputs, clusters, rank;
  bool by_factors;
};

class OrdersOfProducts : public ::testing::TestWithParam<OrderCase> {};

TEST_P(OrdersOfProducts, GiveTheFormedDistances) {
  const auto& [S, I, O, K, R, by_factors] = GetParam();
  // Eq. 9 costs S K R (I + O); Eq. 8 (S + K) I O, with centers of higher rank formed, too.
  ASSERT_EQ(S * K * R * (I + O) <= (S + K) * I * O, by_factors);
  GradientBatch batch;
  batch.parameters = {normal_factors(5, S, I, O, 3)};
  const auto centers = orthogonal_centers(batch, K, R, 7);
  const auto expected =
      (test::dense(batch).unsqueeze(1) - formed(centers).unsqueeze(0)).square().sum(2);
  EXPECT_TRUE(
      tensor_near(centers.squared_distances(batch, centers.squared_norms()), expected, 1e-12));
}

INSTANTIATE_TEST_SUITE_P(
    Layers, OrdersOfProducts,
    ::testing::Values(OrderCase{1, 20, 30, 4, 1, true}, OrderCase{1, 20, 30, 4, 5, true},
                      OrderCase{1, 6, 5, 9, 5, false}, OrderCase{16, 27, 8, 2, 1, true},
                      OrderCase{16, 27, 8, 12, 1, false}, OrderCase{16, 27, 8, 2, 3, true},
                      OrderCase{16, 27, 8, 3, 8, false}));

TEST(FactoredCenters, DistancesAreNeverNegative) {
  // Centers equal to the gradients: rounding must not show as a negative distance.
  const auto batch = three_parameters(40, 1, 3, at::kFloat);
  FactorMeans update(batch, 40);
  update.add(batch, at::arange(40, at::kLong));
  const auto centers = update.centers(nullptr);
  const auto distances = centers.squared_distances(batch, centers.squared_norms());
  EXPECT_GE(distances.min().item<double>(), 0);
  EXPECT_LE(test::largest(distances.diagonal() / batch.squared_norms()), 1e-5);
}

TEST(FactoredCenters, ReplaceCopiesOneCenter) {
  const auto batch = three_parameters(2, 1, 4);
  auto centers = orthogonal_centers(batch, 3, 2, 10);
  auto others = orthogonal_centers(batch, 2, 2, 50);
  others.weights = at::tensor({5.0, 6.0}, at::kDouble);
  const auto before = formed(centers);
  centers.replace(2, others, 0);
  EXPECT_TRUE(same_bits(formed(centers)[2], formed(others)[0]));
  EXPECT_TRUE(same_bits(formed(centers).slice(0, 0, 2), before.slice(0, 0, 2)));
  EXPECT_TRUE(at::equal(centers.weights, at::tensor({1.0, 1.0, 5.0}, at::kDouble)));
}

}  // namespace
}  // namespace gradist
