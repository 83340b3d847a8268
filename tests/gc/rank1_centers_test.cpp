#include "gc/rank1_centers.h"

#include "support/factors.h"
#include "support/property.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using test::any_between;
using test::normal;
using test::normal_factors;
using test::same_bits;
using test::tensor_near;

GradientBatch batch_of(int64_t examples, int64_t positions, uint64_t seed,
                       at::ScalarType dtype = at::kDouble) {
  GradientBatch batch;
  batch.parameters = {
      normal_factors(examples, positions, 4, 3, seed, dtype),
      FactoredGradients::from_dense(normal({examples, 3}, seed + 1, dtype), {3}, "bias"),
      normal_factors(examples, 1, 3, 5, seed + 2, dtype)};
  return batch;
}

Rank1Centers random_centers(const GradientBatch& like, int64_t clusters, uint64_t seed) {
  Rank1Centers centers;
  for (const FactoredGradients& g : like.parameters) {
    const auto dtype = g.backprops().scalar_type();
    centers.parameters.push_back({normal({clusters, g.inputs()}, seed, dtype),
                                  normal({clusters, g.outputs()}, seed + 1, dtype)});
    seed += 2;
  }
  return centers;
}

/// C_k = e_k c_k^T of all parameters end to end, [K, P] float64.
at::Tensor formed(const Rank1Centers& centers) {
  std::vector<at::Tensor> pieces;
  for (const auto& [input_side, output_side] : centers.parameters) {
    pieces.push_back(
        at::einsum("ko,ki->koi", {output_side.to(at::kDouble), input_side.to(at::kDouble)})
            .flatten(1));
  }
  return at::cat(pieces, 1);
}

RC_GTEST_PROP(Rank1Centers, DistancesAreThoseToTheFormedCenters, ()) {
  const auto batch =
      batch_of(any_between(1, 6), any_between(1, 4), static_cast<uint64_t>(any_between(0, 999)));
  const auto centers = random_centers(batch, any_between(1, 7), 2000);
  const auto expected =
      (test::dense(batch).unsqueeze(1) - formed(centers).unsqueeze(0)).square().sum(2);
  const auto distances = centers.squared_distances(batch);
  RC_ASSERT(distances.scalar_type() == at::kDouble);
  const auto result = tensor_near(distances, expected, 1e-11);
  if (!result) RC_FAIL(result.message());
}

TEST(Rank1Centers, DistancesAreNeverNegative) {
  // Centers equal to the gradients: rounding must not show as a negative distance.
  const auto batch = batch_of(40, 1, 3, at::kFloat);
  CenterUpdate update(batch, 40);
  update.add(batch, at::arange(40, at::kLong));
  const auto distances = update.centers(nullptr).squared_distances(batch);
  EXPECT_GE(distances.min().item<double>(), 0);
  EXPECT_LE(test::largest(distances.diagonal() / batch.squared_norms()), 1e-5);
}

TEST(Rank1Centers, ReplaceCopiesOneCenter) {
  const auto batch = batch_of(2, 1, 4);
  auto centers = random_centers(batch, 3, 10);
  const auto others = random_centers(batch, 2, 50);
  const auto before = formed(centers);
  centers.replace(2, others, 0);
  EXPECT_TRUE(same_bits(formed(centers)[2], formed(others)[0]));
  EXPECT_TRUE(same_bits(formed(centers).slice(0, 0, 2), before.slice(0, 0, 2)));
}

// Two batches, clusters of 3, 0 and 2 examples, everything written out.
TEST(CenterUpdate, TakesTheMeansOfActivationsAndOfBackprops) {
  const auto batch = batch_of(5, 3, 5);
  const auto assignments = at::tensor({0, 2, 0, 0, 2}, at::kLong);
  CenterUpdate update(batch, 3);
  for (const auto& [begin, end] : {std::pair{0, 2}, std::pair{2, 5}}) {
    update.add(batch.slice(begin, end), assignments.slice(0, begin, end));
  }
  EXPECT_TRUE(at::equal(update.sizes(), at::tensor({3.0, 0.0, 2.0}, at::kDouble)));
  const auto centers = update.centers(nullptr);
  ASSERT_EQ(centers.clusters(), 3);
  for (size_t l = 0; l < batch.parameters.size(); ++l) {
    for (const int64_t k : {0, 2}) {
      const auto members = (assignments == k).nonzero().squeeze(1);
      const auto a = batch.parameters[l].activations().index_select(0, members);
      const auto d = batch.parameters[l].backprops().index_select(0, members);
      EXPECT_TRUE(tensor_near(centers.parameters[l].input_side[k], a.mean(1).mean(0), 1e-14));
      EXPECT_TRUE(tensor_near(centers.parameters[l].output_side[k], d.sum(1).mean(0), 1e-14));
    }
  }
  EXPECT_EQ(test::largest(formed(centers)[1]), 0);
}

TEST(CenterUpdate, IsExactForGradientsThatAreFormed) {
  GradientBatch batch;
  batch.parameters = {FactoredGradients::from_dense(normal({6, 4}, 6), {4}, "bias"),
                      FactoredGradients::from_dense(normal({6, 2, 3}, 7), {2, 3}, "one-by-one")};
  const auto assignments = at::tensor({0, 1, 1, 0, 1, 1}, at::kLong);
  CenterUpdate update(batch, 2);
  update.add(batch, assignments);
  const auto centers = formed(update.centers(nullptr));
  for (const int64_t k : {0, 1}) {
    EXPECT_TRUE(
        tensor_near(centers[k], test::dense(batch).index({assignments == k}).mean(0), 1e-14));
  }
}

// With a position-wise mean of a and a sum of d, a cluster of one example is exact if its d or its
// a is the same at every position.
TEST(CenterUpdate, IsExactForUncorrelatedPositions) {
  GradientBatch batch;
  batch.parameters = {
      {normal({1, 1, 3}, 8).expand({1, 4, 3}), normal({1, 4, 2}, 9), {2, 3}, "linear"},
      {normal({1, 4, 3}, 10), normal({1, 1, 2}, 11).expand({1, 4, 2}), {2, 3}, "linear"}};
  CenterUpdate update(batch, 1);
  update.add(batch, at::zeros({1}, at::kLong));
  EXPECT_TRUE(tensor_near(formed(update.centers(nullptr)), test::dense(batch), 1e-14));
}

TEST(CenterUpdate, EmptyClustersKeepTheFormerCenter) {
  const auto batch = batch_of(4, 2, 12);
  const auto former = random_centers(batch, 3, 90);
  CenterUpdate update(batch, 3);
  update.add(batch, at::tensor({0, 2, 2, 0}, at::kLong));
  const auto kept = formed(update.centers(&former)), fresh = formed(update.centers(nullptr));
  EXPECT_TRUE(same_bits(kept[1], formed(former)[1]));
  EXPECT_TRUE(same_bits(kept[0], fresh[0]));
  EXPECT_TRUE(same_bits(kept[2], fresh[2]));
}

TEST(CenterUpdate, CentersHaveTheDtypeOfTheGradients) {
  const auto batch = batch_of(4, 2, 13, at::kFloat);
  CenterUpdate update(batch, 2);
  update.add(batch, at::tensor({0, 1, 1, 0}, at::kLong));
  for (const auto& [input_side, output_side] : update.centers(nullptr).parameters) {
    EXPECT_EQ(input_side.scalar_type(), at::kFloat);
    EXPECT_EQ(output_side.scalar_type(), at::kFloat);
  }
}

}  // namespace
}  // namespace gradist
