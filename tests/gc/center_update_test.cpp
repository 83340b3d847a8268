#include "gc/center_update.h"

#include "support/centers.h"
#include "support/factors.h"
#include "support/property.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace gradist {
namespace {

using test::any_between;
using test::formed;
using test::normal;
using test::orthogonal_centers;
using test::same_bits;
using test::tensor_near;
using test::three_parameters;

// Two batches, clusters of 3, 0 and 2 examples, everything written out.
TEST(FactorMeans, TakesTheMeansOfActivationsAndOfBackprops) {
  const auto batch = three_parameters(5, 3, 5);
  const auto assignments = at::tensor({0, 2, 0, 0, 2}, at::kLong);
  FactorMeans update(batch, 3);
  for (const auto& [begin, end] : {std::pair{0, 2}, std::pair{2, 5}}) {
    update.add(batch.slice(begin, end), assignments.slice(0, begin, end));
  }
  const auto centers = update.centers(nullptr);
  EXPECT_TRUE(at::equal(centers.weights, at::tensor({3.0, 0.0, 2.0}, at::kDouble)));
  ASSERT_EQ(centers.clusters(), 3);
  for (size_t l = 0; l < batch.parameters.size(); ++l) {
    for (const int64_t k : {0, 2}) {
      const auto members = (assignments == k).nonzero().squeeze(1);
      const auto a = batch.parameters[l].activations().index_select(0, members);
      const auto d = batch.parameters[l].backprops().index_select(0, members);
      EXPECT_TRUE(tensor_near(centers.parameters[l].input_side[k][0], a.mean(1).mean(0), 1e-14));
      EXPECT_TRUE(tensor_near(centers.parameters[l].output_side[k][0], d.sum(1).mean(0), 1e-14));
    }
  }
  EXPECT_EQ(test::largest(formed(centers)[1]), 0);
}

TEST(FactorMeans, IsExactForGradientsThatAreFormed) {
  GradientBatch batch;
  batch.parameters = {FactoredGradients::from_dense(normal({6, 4}, 6), {4}, "bias"),
                      FactoredGradients::from_dense(normal({6, 2, 3}, 7), {2, 3}, "one-by-one")};
  const auto assignments = at::tensor({0, 1, 1, 0, 1, 1}, at::kLong);
  FactorMeans update(batch, 2);
  update.add(batch, assignments);
  const auto centers = formed(update.centers(nullptr));
  for (const int64_t k : {0, 1}) {
    EXPECT_TRUE(
        tensor_near(centers[k], test::dense(batch).index({assignments == k}).mean(0), 1e-14));
  }
}

// With a position-wise mean of a and a sum of d, a cluster of one example is exact if its d or its
// a is the same at every position.
TEST(FactorMeans, IsExactForUncorrelatedPositions) {
  GradientBatch batch;
  batch.parameters = {
      {normal({1, 1, 3}, 8).expand({1, 4, 3}), normal({1, 4, 2}, 9), {2, 3}, "linear"},
      {normal({1, 4, 3}, 10), normal({1, 1, 2}, 11).expand({1, 4, 2}), {2, 3}, "linear"}};
  FactorMeans update(batch, 1);
  update.add(batch, at::zeros({1}, at::kLong));
  EXPECT_TRUE(tensor_near(formed(update.centers(nullptr)), test::dense(batch), 1e-14));
}

TEST(FactorMeans, EmptyClustersKeepTheFormerCenter) {
  const auto batch = three_parameters(4, 2, 12);
  const auto former = orthogonal_centers(batch, 3, 1, 90);
  FactorMeans update(batch, 3);
  update.add(batch, at::tensor({0, 2, 2, 0}, at::kLong));
  const auto kept = formed(update.centers(&former)), fresh = formed(update.centers(nullptr));
  EXPECT_TRUE(same_bits(kept[1], formed(former)[1]));
  EXPECT_TRUE(same_bits(kept[0], fresh[0]));
  EXPECT_TRUE(same_bits(kept[2], fresh[2]));
}

TEST(FactorMeans, CentersHaveTheDtypeOfTheGradients) {
  const auto batch = three_parameters(4, 2, 13, at::kFloat);
  FactorMeans update(batch, 2);
  update.add(batch, at::tensor({0, 1, 1, 0}, at::kLong));
  for (const auto& [input_side, output_side] : update.centers(nullptr).parameters) {
    EXPECT_EQ(input_side.scalar_type(), at::kFloat);
    EXPECT_EQ(output_side.scalar_type(), at::kFloat);
  }
}

// Cluster 0 gets two new members, cluster 1 none, cluster 2 one; the former centers stand for 4, 3
// and 0 examples.
TEST(FactorMeans, BlendWithWhatTheFormerCentersStandFor) {
  const auto batch = three_parameters(3, 2, 14);
  const auto assignments = at::tensor({0, 2, 0}, at::kLong);
  auto former = orthogonal_centers(batch, 3, 1, 91);
  former.weights = at::tensor({4.0, 3.0, 0.0}, at::kDouble);
  FactorMeans update(batch, 3);
  update.add(batch, assignments);
  const auto centers = update.centers(&former, 0.25);
  EXPECT_TRUE(at::equal(centers.weights, at::tensor({3.0, 0.75, 1.0}, at::kDouble)));
  for (size_t l = 0; l < batch.parameters.size(); ++l) {
    const auto a = batch.parameters[l].activations().mean(1);
    const auto d = batch.parameters[l].backprops().sum(1);
    const auto& before = former.parameters[l];
    const auto& after = centers.parameters[l];
    EXPECT_TRUE(
        tensor_near(after.input_side[0][0], (before.input_side[0][0] + a[0] + a[2]) / 3, 1e-14));
    EXPECT_TRUE(
        tensor_near(after.output_side[0][0], (before.output_side[0][0] + d[0] + d[2]) / 3, 1e-14));
    EXPECT_TRUE(same_bits(after.input_side[1], before.input_side[1]));
    EXPECT_TRUE(tensor_near(after.input_side[2][0], a[1], 1e-14));
    EXPECT_TRUE(tensor_near(after.output_side[2][0], d[1], 1e-14));
  }
}

/// The best matrix of rank R by the definition of the SVD.
at::Tensor truncated(const at::Tensor& matrix, int64_t rank) {
  const auto [U, s, V] = at::linalg_svd(matrix, /*full_matrices=*/false);
  return at::mm(U.slice(1, 0, rank) * s.slice(0, 0, rank), V.slice(0, 0, rank));
}

at::Tensor product(const FactoredCenters::Factors& factors) {
  return at::mm(factors.output_side.t(), factors.input_side);
}

RC_GTEST_PROP(NearestOfRank, LeavesTheSmallestSingularValues, ()) {
  const auto O = any_between(1, 6), I = any_between(1, 6);
  const auto rank = any_between(1, std::min(O, I)), kept = any_between(1, std::min(O, I));
  // Also matrices of lower rank than asked for.
  const auto seed = static_cast<uint64_t>(any_between(0, 999));
  const auto M = truncated(normal({O, I}, seed), kept);
  const auto nearest = nearest_of_rank(M, rank);
  RC_ASSERT(nearest.input_side.sizes() == at::IntArrayRef({rank, I}));
  RC_ASSERT(nearest.output_side.sizes() == at::IntArrayRef({rank, O}));
  const auto left = at::linalg_svdvals(M).slice(0, rank).square().sum().item<double>();
  const auto scale = M.square().sum().item<double>();
  const auto error = (M - product(nearest)).square().sum().item<double>();
  RC_ASSERT(std::abs(error - left) <= 1e-12 * scale);
  // Terms are orthogonal, as squared distances take for granted.
  const auto terms = at::einsum("ro,ri->roi", {nearest.output_side, nearest.input_side}).flatten(1);
  const auto products = at::mm(terms, terms.t());
  RC_ASSERT(test::largest(products - products.diagonal().diag()) <= 1e-12 * scale);
}

TEST(NearestOfRank, IsTheMatrixItselfAtFullRank) {
  for (const auto& M :
       {normal({3, 5}, 1), normal({5, 3}, 2), normal({4, 4}, 3), normal({1, 6}, 4)}) {
    const auto rank = std::min(M.size(0), M.size(1));
    EXPECT_TRUE(at::equal(product(nearest_of_rank(M, rank)), M));
  }
}

TEST(NearestOfRank, CarriesWhatIsNotFinite) {
  auto M = normal({3, 4}, 5);
  M[1][2] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_TRUE(product(nearest_of_rank(M, 1)).isnan().any().item<bool>());
}

/// Means of clusters of 3, 0 and 4 examples, in chunks that cut the last one.
FactoredCenters means_of(const GradientBatch& batch, int64_t rank, const FactoredCenters* former,
                         double decay) {
  TruncatedMeans means(batch, 3, rank, former, decay);
  means.add(batch.slice(0, 5), {{0, 0, 3, true}, {2, 3, 5, false}});
  means.add(batch.slice(5, 7), {{2, 0, 2, true}});
  return means.centers();
}

/// Cluster means cut to a rank parameter by parameter, [K, P], by an SVD each; zero without
/// members.
at::Tensor dense_means(const GradientBatch& batch, int64_t rank) {
  std::vector<at::Tensor> pieces;
  for (const FactoredGradients& g : batch.parameters) {
    const auto rows = g.dense().reshape({g.size(), g.outputs(), g.inputs()});
    const auto terms = std::min({rank, g.outputs(), g.inputs()});
    pieces.push_back(at::stack({truncated(rows.slice(0, 0, 3).mean(0), terms),
                                at::zeros({g.outputs(), g.inputs()}, at::kDouble),
                                truncated(rows.slice(0, 3, 7).mean(0), terms)})
                         .flatten(1));
  }
  return at::cat(pieces, 1);
}

TEST(TruncatedMeans, AreTheNearestToTheMeanGradients) {
  for (const int64_t positions : {1, 3}) {
    const auto batch = three_parameters(7, positions, 15);
    for (const int64_t rank : {1, 2, 3, 9}) {
      const auto centers = means_of(batch, rank, nullptr, 0);
      EXPECT_TRUE(tensor_near(formed(centers), dense_means(batch, rank), 1e-10))
          << positions << " positions, rank " << rank;
      EXPECT_TRUE(at::equal(centers.weights, at::tensor({3.0, 0.0, 4.0}, at::kDouble)));
    }
  }
}

TEST(TruncatedMeans, BlendWithWhatTheFormerCentersStandFor) {
  const auto batch = three_parameters(7, 2, 16);
  const auto G = test::dense(batch);
  auto former = orthogonal_centers(batch, 3, 9, 92);
  former.weights = at::tensor({4.0, 3.0, 0.0}, at::kDouble);
  const auto C = formed(former);
  const auto centers = means_of(batch, 9, &former, 0.25);
  EXPECT_TRUE(at::equal(centers.weights, at::tensor({4.0, 0.75, 4.0}, at::kDouble)));
  const auto after = formed(centers);
  EXPECT_TRUE(tensor_near(after[0], (C[0] + G.slice(0, 0, 3).sum(0)) / 4, 1e-13));
  EXPECT_TRUE(same_bits(after[1], C[1]));
  EXPECT_TRUE(tensor_near(after[2], G.slice(0, 3, 7).mean(0), 1e-13));
  // No decay: nothing of the former centers but those of empty clusters.
  const auto forgot = formed(means_of(batch, 9, &former, 0));
  EXPECT_TRUE(tensor_near(forgot[0], G.slice(0, 0, 3).mean(0), 1e-13));
  EXPECT_TRUE(same_bits(forgot[1], C[1]));
}

}  // namespace
}  // namespace gradist
