#include "gradients/gradient_batch.h"

#include "support/factors.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

#include <cmath>

namespace gradist {
namespace {

using test::dense;
using test::flatten;
using test::normal;
using test::normal_factors;
using test::same_bits;
using test::tensor_near;

GradientBatch batch_of(int64_t examples, uint64_t seed, at::ScalarType dtype = at::kDouble) {
  GradientBatch batch;
  batch.parameters = {
      normal_factors(examples, 1, 4, 3, seed, dtype),
      normal_factors(examples, 3, 2, 5, seed + 1, dtype),
      FactoredGradients::from_dense(normal({examples, 6}, seed + 2, dtype), {2, 3}, "one-by-one")};
  batch.losses = normal({examples}, seed + 3, dtype);
  batch.outputs = normal({examples, 2}, seed + 4, dtype);
  return batch;
}

TEST(GradientBatch, SumsOverParameters) {
  const auto g = batch_of(5, 1), h = batch_of(5, 50), others = batch_of(4, 90);
  const auto G = dense(g), H = dense(h);
  const ParameterList direction{normal({3, 4}, 5), normal({5, 2}, 6), normal({2, 3}, 7)};
  const auto weights = normal({5}, 8);
  EXPECT_TRUE(tensor_near(g.squared_norms(), G.square().sum(1), 1e-12));
  EXPECT_TRUE(tensor_near(g.inner(direction), G.matmul(flatten(direction)), 1e-12));
  EXPECT_TRUE(tensor_near(g.inner(h), (G * H).sum(1), 1e-12));
  EXPECT_TRUE(tensor_near(g.gram(others), G.matmul(dense(others).t()), 1e-12));
  EXPECT_TRUE(tensor_near(flatten(g.weighted_sum(weights)), weights.matmul(G), 1e-12));
  EXPECT_TRUE(tensor_near(dense(g.difference(h)), G - H, 1e-12));
  EXPECT_TRUE(tensor_near(g.difference_squared_norms_per_parameter(h).sum(0),
                          (G - H).square().sum(1), 1e-12));
}

TEST(GradientBatch, KeepsParametersApart) {
  const auto g = batch_of(5, 1), h = batch_of(5, 50);
  const auto norms = g.squared_norms_per_parameter();
  const auto differences = g.difference_squared_norms_per_parameter(h);
  for (size_t l = 0; l < g.parameters.size(); ++l) {
    const auto G = g.parameters[l].dense().flatten(1), H = h.parameters[l].dense().flatten(1);
    const auto row = static_cast<int64_t>(l);
    EXPECT_TRUE(tensor_near(norms[row], G.square().sum(1), 1e-12));
    EXPECT_TRUE(tensor_near(differences[row], (G - H).square().sum(1), 1e-12));
  }
}

TEST(GradientBatch, SumsOverParametersInDouble) {
  const auto g = batch_of(3, 1, at::kFloat);
  for (const at::Tensor& sum : {g.squared_norms(), g.squared_norms_per_parameter(), g.inner(g),
                                g.gram(g), g.difference_squared_norms_per_parameter(g)}) {
    EXPECT_EQ(sum.scalar_type(), at::kDouble);
  }
}

TEST(GradientBatch, SlicesEverythingAnExampleHas) {
  const auto g = batch_of(5, 1);
  const auto part = g.slice(1, 4);
  EXPECT_EQ(part.size(), 3);
  EXPECT_TRUE(tensor_near(dense(part), dense(g).slice(0, 1, 4), 1e-14));
  EXPECT_TRUE(same_bits(part.losses, g.losses.slice(0, 1, 4)));
  EXPECT_TRUE(same_bits(part.outputs, g.outputs.slice(0, 1, 4)));
  auto silent = batch_of(5, 1);
  silent.outputs.reset();
  EXPECT_FALSE(silent.slice(1, 4).outputs.defined());
}

TEST(GradientBatch, CountsTheBytesOfAllFactors) {
  GradientBatch batch;
  batch.parameters = {normal_factors(7, 2, 3, 5, 1, at::kFloat), normal_factors(7, 1, 2, 2, 2)};
  EXPECT_EQ(batch.bytes(), 7 * 2 * 8 * 4 + 7 * 4 * 8);
}

TEST(Sketch, KeepsSidesWithinTheLimitAsTheyAre) {
  const auto g = batch_of(4, 1), h = batch_of(3, 50);
  const Sketch sketch(g, /*side=*/6, /*seed=*/1);
  EXPECT_EQ(sketch(g).sizes(), (at::IntArrayRef{4, 12 + 10 + 6}));
  EXPECT_TRUE(tensor_near(sketch(g).matmul(sketch(h).t()), g.gram(h), 1e-12));
}

TEST(Sketch, IsNoLargerThanItsSides) {
  GradientBatch batch;
  batch.parameters = {normal_factors(2, 1, 40, 30, 1), normal_factors(2, 3, 40, 2, 2),
                      normal_factors(2, 1, 1, 40, 3),
                      FactoredGradients::from_dense(normal({2, 8, 3, 5}, 4), {8, 3, 5}, "conv"),
                      FactoredGradients::from_dense(normal({2, 8}, 5), {8}, "bias")};
  const Sketch sketch(batch, /*side=*/4, /*seed=*/1);
  EXPECT_EQ(sketch(batch).sizes(), (at::IntArrayRef{2, 4 * 4 + 4 * 2 + 1 * 4 + 4 * 4 + 4 * 1}));
}

TEST(Sketch, IsTheSameForTheSameSeedOnly) {
  GradientBatch batch;
  batch.parameters = {normal_factors(2, 1, 40, 30, 1)};
  EXPECT_TRUE(same_bits(Sketch(batch, 4, 1)(batch), Sketch(batch, 4, 1)(batch)));
  EXPECT_FALSE(same_bits(Sketch(batch, 4, 1)(batch), Sketch(batch, 4, 2)(batch)));
}

// For normal projections to s rows E<Pa, Pb>^2 = <a, b>^2 + (|a|^2 |b|^2 + <a, b>^2) / s, and the
// two sides are independent; so the standard deviation of a mean over M seeds is known. Five of
// them.
TEST(Sketch, EstimatesInnerProductsWithoutBias) {
  constexpr int64_t kSide = 4, kSeeds = 400;
  GradientBatch g, h;
  g.parameters = {normal_factors(3, 1, 20, 15, 1)};
  h.parameters = {normal_factors(3, 1, 20, 15, 2)};
  auto mean = at::zeros({3, 3}, at::kDouble);
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    const Sketch sketch(g, kSide, seed);
    mean += sketch(g).matmul(sketch(h).t()) / kSeeds;
  }
  const auto second_moment = [](const at::Tensor& x, const at::Tensor& y) {
    const auto squares = x.square().sum(1).outer(y.square().sum(1));
    const auto product = x.matmul(y.t()).square();
    return product + (squares + product) / kSide;
  };
  const auto& left = g.parameters[0];
  const auto& right = h.parameters[0];
  const auto variance =
      second_moment(left.activations().select(1, 0), right.activations().select(1, 0)) *
          second_moment(left.backprops().select(1, 0), right.backprops().select(1, 0)) -
      g.gram(h).square();
  const auto deviation = (variance / kSeeds).sqrt();
  EXPECT_LE(test::largest((mean - g.gram(h)) / deviation), 5);
}

}  // namespace
}  // namespace gradist
