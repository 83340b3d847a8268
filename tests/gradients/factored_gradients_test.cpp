#include "gradients/factored_gradients.h"

#include "support/factors.h"
#include "support/property.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

#include <string>

namespace gradist {
namespace {

using test::any_between;
using test::normal;
using test::normal_factors;
using test::same_bits;
using test::tensor_near;

/// sum_s d_is a_is^T in float64, [B, O, I]: what everything else is held against.
at::Tensor formed(const FactoredGradients& g) {
  return at::einsum("bso,bsi->boi",
                    {g.backprops().to(at::kDouble), g.activations().to(at::kDouble)});
}

/// The same with every term made positive: the scale that rounding errors are measured by.
at::Tensor formed_magnitudes(const FactoredGradients& g) {
  return formed({g.activations().abs(), g.backprops().abs(), g.shape(), g.method()});
}

double tolerance_of(at::ScalarType dtype) { return dtype == at::kDouble ? 1e-12 : 1e-5; }

/// Lets a property fail with the words of the assertion.
void hold(const ::testing::AssertionResult& result, const std::string& what) {
  if (!result) RC_FAIL(what + ": " + result.message());
}

struct Sizes {
  int64_t examples, positions, other_positions, inputs, outputs;
};

Sizes any_sizes() {
  return {any_between(1, 5), any_between(1, 6), any_between(1, 6), any_between(1, 7),
          any_between(1, 7)};
}

/// Every result about one object, or about two for the same examples.
void agree_with_formed(const FactoredGradients& g, const FactoredGradients& h, uint64_t seed) {
  const auto dtype = g.activations().scalar_type();
  const auto G = formed(g), H = formed(h);
  const auto G_scale = formed_magnitudes(g), H_scale = formed_magnitudes(h);
  const auto direction = normal({g.outputs(), g.inputs()}, seed + 2, dtype);
  const auto weights = normal({g.size()}, seed + 3, at::kDouble);
  const auto v = direction.to(at::kDouble);
  const auto w = weights.view({-1, 1, 1});

  const auto expect = [&](const at::Tensor& actual, const at::Tensor& expected,
                          const at::Tensor& magnitudes, const std::string& what) {
    if (actual.scalar_type() != dtype) RC_FAIL(what + " has another dtype");
    hold(tensor_near(actual, expected, tolerance_of(dtype), test::largest(magnitudes)), what);
  };
  expect(g.dense(), G, G_scale, "dense");
  expect(g.squared_norms(), G.square().sum({1, 2}), G_scale.square().sum({1, 2}), "squared_norms");
  expect(g.inner(direction), (G * v).sum({1, 2}), (G_scale * v.abs()).sum({1, 2}), "inner");
  expect(g.inner(h), (G * H).sum({1, 2}), (G_scale * H_scale).sum({1, 2}), "inner of two");
  const auto [norms, sum] = g.squared_norms_and_sum();
  expect(norms, G.square().flatten(1).sum(1), G_scale.square().flatten(1).sum(1), "norms of both");
  expect(sum, G.sum(0), G_scale.sum(0), "sum of both");
  expect(g.gram(h), G.flatten(1).matmul(H.flatten(1).t()),
         G_scale.flatten(1).matmul(H_scale.flatten(1).t()), "gram");
  expect(g.sum(), G.sum(0), G_scale.sum(0), "sum");
  expect(g.weighted_sum(weights), (G * w).sum(0), (G_scale * w.abs()).sum(0), "weighted_sum");
  expect(g.sum_squares(), G.square().sum(0), G_scale.square().sum(0), "sum_squares");
  expect(g.sum_products(h), (G * H).sum(0), (G_scale * H_scale).sum(0), "sum_products");
  expect(g.products(h).dense(), G * H, G_scale * H_scale, "products");
  expect(g.products(g).dense(), G.square(), G_scale.square(), "squares");
  expect(g.joined(h).dense(), G + H, G_scale + H_scale, "joined");
  expect(g.backprop_sums(), g.backprops().to(at::kDouble).sum(1),
         g.backprops().to(at::kDouble).abs().sum(1), "backprop_sums");
  const auto c = normal({3, g.inputs()}, seed + 4, dtype);
  const auto e = normal({3, g.outputs()}, seed + 5, dtype);
  const auto with_centers = [&](const at::Tensor& formed, const at::Tensor& input,
                                const at::Tensor& output) {
    return at::einsum("boi,ki,ko->bk", {formed, input.to(at::kDouble), output.to(at::kDouble)});
  };
  expect(g.inner_rank1(c, e), with_centers(G, c, e), with_centers(G_scale, c.abs(), e.abs()),
         "inner_rank1");
}

RC_GTEST_PROP(FactoredGradients, AgreeWithTheFormedGradients, ()) {
  const auto n = any_sizes();
  const auto seed = static_cast<uint64_t>(any_between(0, 1'000'000));
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    agree_with_formed(
        normal_factors(n.examples, n.positions, n.inputs, n.outputs, seed, dtype),
        normal_factors(n.examples, n.other_positions, n.inputs, n.outputs, seed + 1, dtype), seed);
  }
}

/// Gradients given by rows, some of them repeated.
FactoredGradients normal_rows(const at::Tensor& rows, int64_t inputs, int64_t outputs,
                              uint64_t seed, at::ScalarType dtype = at::kDouble) {
  return FactoredGradients::from_rows(rows,
                                      normal({rows.size(0), rows.size(1), inputs}, seed, dtype),
                                      {outputs, inputs}, "embedding");
}

at::Tensor any_rows(int64_t examples, int64_t positions, int64_t outputs, uint64_t seed) {
  return at::randint(outputs, {examples, positions}, test::generator_of(seed), at::kLong);
}

// Few rows a position, which are formed, and many.
RC_GTEST_PROP(FactoredGradients, ByRowsAgreeWithTheFormedGradients, ()) {
  const auto n = any_sizes();
  const auto outputs = any_between(1, 60);
  const auto seed = static_cast<uint64_t>(any_between(0, 1'000'000));
  const auto rows = any_rows(n.examples, n.positions, outputs, seed);
  const auto others = any_rows(n.examples, n.other_positions, outputs, seed + 1);
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const auto g = normal_rows(rows, n.inputs, outputs, seed + 2, dtype);
    agree_with_formed(g, normal_rows(rows, n.inputs, outputs, seed + 3, dtype), seed + 4);
    agree_with_formed(g, normal_rows(others, n.inputs, outputs, seed + 3, dtype), seed + 4);
    const auto formed_by_products =
        normal_factors(n.examples, n.other_positions, n.inputs, outputs, seed + 3, dtype);
    agree_with_formed(g, formed_by_products, seed + 4);
    agree_with_formed(formed_by_products, g, seed + 4);
  }
  const auto g = normal_rows(rows, n.inputs, outputs, seed + 2);
  const auto first = any_between(0, outputs - 1), last = any_between(first + 1, outputs);
  const auto part = g.slice_outputs(first, last);
  hold(tensor_near(part.dense(), formed(g).slice(1, first, last), 1e-12), "slice_outputs");
  const auto P_i = normal({2, n.inputs}, 40), P_o = normal({3, outputs}, 41);
  hold(tensor_near(g.sketch(P_i, P_o), P_o.matmul(formed(g)).matmul(P_i.t()).flatten(1), 1e-12,
                   100 * test::largest(formed_magnitudes(g))),
       "sketch");
}

// Per-example gradients of sparse data take memory of the numbers that are there.
TEST(FactoredGradients, ByRowsTakeNoMemoryForTheOtherRows) {
  const auto g = normal_rows(any_rows(8, 3, 1 << 30, 1), 2, 1 << 30, 2);
  EXPECT_EQ(g.bytes(), 8 * 3 * (2 + 1) * 8);
  const auto part = g.slice_outputs(0, 1 << 20);
  EXPECT_LE(part.sum_squares().numel(), int64_t{2} << 20);
  const auto products = g.gram(g);
  EXPECT_TRUE(tensor_near(products.diagonal(), g.squared_norms(), 1e-12));
  EXPECT_FALSE(g.centers_by_forming(64)) << "a center's side is looked up where the rows are";
}

RC_GTEST_PROP(FactoredGradients, DifferencesAgreeWithTheFormedOnes, ()) {
  const auto n = any_sizes();
  const auto seed = static_cast<uint64_t>(any_between(0, 1'000'000));
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const auto g = normal_factors(n.examples, n.positions, n.inputs, n.outputs, seed, dtype);
    const auto h = normal_factors(n.examples, n.positions, n.inputs, n.outputs, seed + 1, dtype);
    const auto difference = formed(g) - formed(h);
    // Of the terms (d - e) a^T + e (a - b)^T.
    const auto scale = 3 *
                       (test::largest(formed_magnitudes(g)) + test::largest(formed_magnitudes(h))) *
                       static_cast<double>(1 + n.positions);
    const auto cells = static_cast<double>(n.inputs * n.outputs);
    hold(tensor_near(g.difference(h).dense(), difference, tolerance_of(dtype), scale),
         "difference");
    const auto norms = g.difference_squared_norms(h);
    RC_ASSERT(norms.scalar_type() == at::kDouble);
    hold(tensor_near(norms, difference.square().sum({1, 2}), tolerance_of(dtype),
                     cells * scale * scale),
         "difference_squared_norms");
  }
}

/// h is g with every factor changed in its digits from `relative` on.
FactoredGradients nearly(const FactoredGradients& g, double relative, uint64_t seed) {
  const auto changed = [&](const at::Tensor& x) {
    return x * (1 + relative * normal(x.sizes().vec(), seed++, x.scalar_type()));
  };
  return {changed(g.activations()), changed(g.backprops()), g.shape(), g.method()};
}

// The square of a relative difference of 1e-9 lies below the rounding of ||g||^2, so that the naive
// form has no right digit; the formed difference still has seven.
TEST(FactoredGradients, DifferencesOfNearlyEqualGradientsKeepTheirDigits) {
  for (const int64_t positions : {1, 3}) {
    SCOPED_TRACE(positions);
    const auto g = normal_factors(4, positions, 30, 20, 1);
    const auto h = nearly(g, 1e-9, 10);
    const auto expected = (formed(g) - formed(h)).square().sum({1, 2});
    const auto naive = g.squared_norms() + h.squared_norms() - 2 * g.inner(h);
    EXPECT_FALSE(tensor_near(naive, expected, 1e-1));
    for (const at::Tensor& norms :
         {g.difference_squared_norms(h), g.difference(h).squared_norms()}) {
      EXPECT_LT(test::largest(norms / expected - 1), 1e-6);
    }
    EXPECT_TRUE(tensor_near(g.difference(h).dense(), formed(g) - formed(h), 1e-6));
  }
}

TEST(FactoredGradients, DifferencesOfNearlyEqualGradientsKeepTheirDigitsInFloat) {
  for (const int64_t positions : {1, 3}) {
    SCOPED_TRACE(positions);
    const auto g = normal_factors(4, positions, 30, 20, 2, at::kFloat);
    const auto h = nearly(g, 1e-4, 20);
    const auto expected = (formed(g) - formed(h)).square().sum({1, 2});
    const auto naive = g.squared_norms() + h.squared_norms() - 2 * g.inner(h);
    EXPECT_FALSE(tensor_near(naive, expected, 1e-1));
    EXPECT_LT(test::largest(g.difference_squared_norms(h) / expected - 1),
              positions == 1 ? 1e-10 : 1e-5);
  }
}

TEST(FactoredGradients, DifferenceFromItselfIsZero) {
  for (const int64_t positions : {1, 3}) {
    const auto g = normal_factors(4, positions, 5, 6, 3, at::kFloat);
    EXPECT_EQ(test::largest(g.difference_squared_norms(g)), 0);
    EXPECT_EQ(test::largest(g.difference(g).dense()), 0);
  }
}

RC_GTEST_PROP(FactoredGradients, SlicesAreRowsOfTheFormedGradients, ()) {
  const auto n = any_sizes();
  const auto g = normal_factors(n.examples, n.positions, n.inputs, n.outputs, 4);
  const auto begin = any_between(0, n.examples - 1), end = any_between(begin + 1, n.examples);
  const auto part = g.slice(begin, end);
  RC_ASSERT(part.size() == end - begin);
  RC_ASSERT(part.shape() == g.shape());
  hold(tensor_near(part.dense(), formed(g).slice(0, begin, end), 1e-12), "slice");
  const auto first = any_between(0, n.outputs - 1), last = any_between(first + 1, n.outputs);
  const auto rows = g.slice_outputs(first, last);
  RC_ASSERT((rows.shape() == std::vector<int64_t>{last - first, n.inputs}));
  hold(tensor_near(rows.dense(), formed(g).slice(1, first, last), 1e-12), "slice_outputs");
}

TEST(FactoredGradients, SlicesAreViews) {
  const auto g = normal_factors(4, 2, 3, 5, 5);
  EXPECT_TRUE(g.slice(1, 3).activations().is_alias_of(g.activations()));
  EXPECT_TRUE(g.slice_outputs(1, 3).backprops().is_alias_of(g.backprops()));
}

// Both sums go over more than one tile of formed gradients (2^22 numbers), of which the last is not
// full.
TEST(FactoredGradients, SumsOverManyPositionsGoTileByTile) {
  const auto g = normal_factors(1030, 40, 64, 64, 6), h = normal_factors(1030, 3, 64, 64, 7);
  ASSERT_FALSE(g.few_pairs(h));
  const auto G = formed(g), H = formed(h);
  EXPECT_TRUE(tensor_near(g.squared_norms(), G.square().sum({1, 2}), 1e-12));
  EXPECT_TRUE(tensor_near(g.sum_squares(), G.square().sum(0), 1e-12));
  EXPECT_TRUE(
      tensor_near(g.sum_products(h), (G * H).sum(0), 1e-12, test::largest(G.square().sum(0))));
}

TEST(FactoredGradients, FewPairsOfPositionsAreTakenApart) {
  const auto with = [](int64_t positions) { return normal_factors(2, positions, 3, 4, 8); };
  EXPECT_TRUE(with(1).few_pairs(with(4)));
  EXPECT_TRUE(with(2).few_pairs(with(2)));
  EXPECT_FALSE(with(3).few_pairs(with(3)));
  const auto g = with(2);
  EXPECT_EQ(g.products(g).positions(), 3);        // (1, 1), (1, 2), (2, 2)
  EXPECT_EQ(g.products(with(2)).positions(), 4);  // not known to be the same gradients
}

struct Rank1Case {
  int64_t positions, inputs, outputs, centers;
  bool by_factors;  ///< which order is the cheaper one
};

class InnerRank1 : public ::testing::TestWithParam<Rank1Case> {};

TEST_P(InnerRank1, AgreesWithTheFormedCenters) {
  const auto& [S, I, O, K, by_factors] = GetParam();
  EXPECT_EQ(normal_factors(4, S, I, O, 9).centers_by_forming(K), !by_factors);
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const auto g = normal_factors(4, S, I, O, 9, dtype);
    const auto c = normal({K, I}, 30, dtype), e = normal({K, O}, 31, dtype);
    const auto product = [&](const at::Tensor& G, const at::Tensor& input,
                             const at::Tensor& output) {
      return at::einsum("boi,ki,ko->bk", {G, input.to(at::kDouble), output.to(at::kDouble)});
    };
    const auto scale = test::largest(product(formed_magnitudes(g), c.abs(), e.abs()));
    EXPECT_TRUE(
        tensor_near(g.inner_rank1(c, e), product(formed(g), c, e), tolerance_of(dtype), scale));
  }
}

INSTANTIATE_TEST_SUITE_P(Orders, InnerRank1,
                         ::testing::Values(Rank1Case{1, 5, 6, 4, true}, Rank1Case{3, 9, 8, 2, true},
                                           Rank1Case{1, 7, 1, 1, true},
                                           Rank1Case{8, 2, 3, 6, false},
                                           Rank1Case{4, 1, 5, 9, false},
                                           Rank1Case{2, 1, 1, 3, false}));

// Multiply-adds of an example, counted one by one.
RC_GTEST_PROP(FactoredGradients, ProductsWithCentersTakeTheOrderOfFewerMultiplyAdds, ()) {
  const auto n = any_sizes();
  const auto K = any_between(1, 12);
  int64_t by_factors = 0, by_forming = 0;
  for (int64_t s = 0; s < n.positions; ++s) {
    by_factors += K * n.inputs;          // <c_k, a_s>
    by_factors += K * n.outputs;         // <e_k, d_s>
    by_forming += n.outputs * n.inputs;  // d_s a_s^T, added to g_i
  }
  by_forming += K * n.outputs * n.inputs;  // <g_i, C_k>
  const auto g = normal_factors(1, n.positions, n.inputs, n.outputs, 11);
  RC_ASSERT(g.centers_by_forming(K) == (by_forming < by_factors));
}

RC_GTEST_PROP(FactoredGradients, SketchesProjectBothSides, ()) {
  const auto n = any_sizes();
  const auto g = normal_factors(n.examples, n.positions, n.inputs, n.outputs, 10);
  const auto P_i = normal({any_between(1, 4), n.inputs}, 40);
  const auto P_o = normal({any_between(1, 4), n.outputs}, 41);
  const auto projected = [&](const at::Tensor& left, const at::Tensor& right) {
    return left.matmul(formed(g)).matmul(right.t()).flatten(1);
  };
  const auto eye_i = at::eye(n.inputs, at::kDouble), eye_o = at::eye(n.outputs, at::kDouble);
  const double scale = 100 * test::largest(formed_magnitudes(g));
  hold(tensor_near(g.sketch(P_i, P_o), projected(P_o, P_i), 1e-12, scale), "both");
  hold(tensor_near(g.sketch({}, P_o), projected(P_o, eye_i), 1e-12, scale), "output side");
  hold(tensor_near(g.sketch(P_i, {}), projected(eye_o, P_i), 1e-12, scale), "input side");
  hold(tensor_near(g.sketch({}, {}), formed(g).flatten(1), 1e-12, scale), "neither");
  // A formed gradient is sketched as the matrix it is, whatever its trailing dimensions.
  const auto whole =
      FactoredGradients::from_dense(formed(g).unsqueeze(3), {n.outputs, n.inputs, 1}, "one-by-one");
  hold(tensor_near(whole.sketch(P_i, P_o), projected(P_o, P_i), 1e-12, scale), "formed, both");
  hold(tensor_near(whole.sketch({}, P_o), projected(P_o, eye_i), 1e-12, scale),
       "formed, output side");
  hold(tensor_near(whole.sketch(P_i, {}), projected(eye_o, P_i), 1e-12, scale),
       "formed, input side");
}

TEST(FactoredGradients, TakeGradientsThatAreFormedAlready) {
  const auto gradients = normal({4, 2, 3, 5}, 11, at::kFloat);
  const auto g = FactoredGradients::from_dense(gradients, {2, 3, 5}, "one-by-one");
  EXPECT_TRUE(same_bits(g.dense(), gradients));
  EXPECT_EQ(g.size(), 4);
  EXPECT_EQ(g.positions(), 1);
  EXPECT_EQ(g.inputs(), 1);
  EXPECT_EQ(g.outputs(), 30);
  EXPECT_EQ(g.method(), "one-by-one");
  EXPECT_EQ(g.sum().sizes(), gradients[0].sizes());
  EXPECT_EQ(g.sum_squares().sizes(), gradients[0].sizes());
  EXPECT_TRUE(tensor_near(g.squared_norms(), gradients.square().sum({1, 2, 3}), 1e-5));
}

TEST(FactoredGradients, CountTheBytesOfTheirFactors) {
  EXPECT_EQ(normal_factors(7, 2, 3, 5, 12, at::kFloat).bytes(), 7 * 2 * (3 + 5) * 4);
  EXPECT_EQ(normal_factors(7, 2, 3, 5, 12, at::kDouble).bytes(), 7 * 2 * (3 + 5) * 8);
  EXPECT_EQ(normal_factors(7, 2, 3, 5, 12, at::kDouble).slice(2, 4).bytes(), 2 * 2 * (3 + 5) * 8);
  EXPECT_EQ(FactoredGradients::from_dense(normal({7, 5}, 12), {5}, "bias").bytes(),
            (7 * 5 + 1) * 8);
}

}  // namespace
}  // namespace gradist
