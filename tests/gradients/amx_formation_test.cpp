#include "gradients/kernels.h"
#include "gradients/layer_rules.h"
#include "gradients/tape.h"
#include "support/kernel_twins.h"
#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/threads.h"

#include <ATen/ATen.h>

#include <cmath>
#include <vector>

namespace gradist {
namespace {

using kernels::Multiplier;
using test::dense_one_by_one;
using test::normal;
using test::tensor_near;
namespace twins = test::twins;

/// Factors a [B, S, I] and d [B, S, O] in float32.
struct Factors {
  at::Tensor a, d;
};
Factors factors(int64_t B, int64_t S, int64_t I, int64_t O) {
  return {normal({B, S, I}, 1).to(at::kFloat), normal({B, S, O}, 2).to(at::kFloat)};
}

class Amx : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto [a, d] = factors(1, 32, 32, 32);
    if (!kernels::can_use_amx(a, d)) {
      GTEST_SKIP() << "no AMX here";
    }
  }
};

/// Of the two kernels, to the precision that float32 has: 1e-5 of the root of the sum of squared
/// terms, whatever cancels.
void expect_right(const Factors& f) {
  ASSERT_TRUE(kernels::can_use_amx(f.a, f.d));
  const auto found = kernels::formed_squared_norms(f.a, f.d, true, Multiplier::kAmx);
  const auto expected = twins::formed(f.a, f.d);
  const auto terms = twins::gradients(twins::wide(f.a).square(), twins::wide(f.d).square());
  EXPECT_TRUE(tensor_near(found.squared_norms, expected.squared_norms, 1e-5,
                          test::largest(terms.sum({1, 2}))));
  EXPECT_TRUE(tensor_near(found.sum, expected.sum, 1e-5, std::sqrt(test::largest(terms.sum(0)))));
  EXPECT_TRUE(tensor_near(found.backprop_sums, twins::wide(f.d).sum(1), 1e-5,
                          std::sqrt(test::largest(twins::wide(f.d).square().sum(1)))));
  const auto norms = kernels::formed_squared_norms(f.a, f.d, false, Multiplier::kAmx);
  EXPECT_TRUE(test::same_bits(norms.squared_norms, found.squared_norms));
}

struct Shape {
  int64_t B, S, I, O;
};

// Whole tiles and one past them, too few for one; several ranges of rows, of columns, of both; as
// many positions as there may be.
const std::vector<Shape> kShapes{{3, 32, 32, 16},   {2, 33, 33, 17},     {4, 16, 16, 16},
                                 {1, 64, 100, 130}, {2, 257, 40, 600},   {2, 257, 600, 40},
                                 {1, 300, 700, 20}, {1, 128, 700, 1100}, {2, 2048, 70, 16}};

TEST_F(Amx, FormsGradients) {
  for (const auto& [B, S, I, O] : kShapes) {
    SCOPED_TRACE(::testing::Message() << "B " << B << " S " << S << " I " << I << " O " << O);
    expect_right(factors(B, S, I, O));
  }
}

TEST_F(Amx, FormsGradientsOfAnyStrides) {
  const auto f = factors(3, 70, 90, 60);
  expect_right({f.a.slice(1, 3, 70, 2).slice(2, 1, 50), f.d.slice(1, 1, 68, 2).slice(2, 20, 41)});
  expect_right({f.a.slice(0, 0, 1).expand({3, 70, 90}), f.d});
}

/// Under autocast: numbers that are bfloat16 already, on one side or on both.
TEST_F(Amx, FormsGradientsOfNumbersInBfloat16) {
  const auto f = factors(3, 50, 40, 70);
  const auto rounded = [](const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kFloat); };
  expect_right({rounded(f.a), f.d});
  expect_right({f.a, rounded(f.d)});
  expect_right({rounded(f.a), rounded(f.d)});
}

/// One product each: what is left out is less than 2^-23, and the two largest of six sums are
/// rounded, by 2^-24 each; the others are below 2^-7 of it.
TEST_F(Amx, LosesNoMoreThanFloat32) {
  auto [a, d] = factors(1, 16, 512, 512);
  for (auto* side : {&a, &d}) {
    *side *= at::exp2(30 * normal(side->sizes().vec(), 3).clamp(-1, 1)).to(at::kFloat);
    side->slice(1, 1).zero_();
  }
  const auto found = kernels::formed_squared_norms(a, d, true, Multiplier::kAmx).sum;
  const auto expected = twins::formed(a, d).sum;
  const auto error = ((found.to(at::kDouble) - expected) / expected).abs();
  EXPECT_LE(test::largest(error), std::exp2(-22) * (1 + std::exp2(-6)));
  EXPECT_GT(test::largest(error), 0);
}

/// No sum of three bfloat16 is an infinity, nor a number that rounds to one.
TEST_F(Amx, LeavesInfinitiesToTheOtherKernel) {
  for (const float large : {INFINITY, NAN, 3.4e38F}) {
    auto [a, d] = factors(2, 20, 40, 40);
    a[1][3][5] = large;
    d.abs_();
    const auto found = kernels::formed_squared_norms(a, d, true, Multiplier::kAmx);
    const auto expected = kernels::formed_squared_norms(a, d, true, Multiplier::kVectors);
    EXPECT_TRUE(std::isfinite(found.squared_norms[0].item<double>()));
    EXPECT_TRUE(test::same_bits(found.squared_norms, expected.squared_norms)) << large;
    EXPECT_TRUE(test::same_bits(found.sum, expected.sum)) << large;
  }
}

TEST_F(Amx, GivesTheSameInEveryRun) {
  const auto [a, d] = factors(5, 70, 300, 200);
  for (const auto threads : {1, 2}) {
    const test::Threads scope(threads);
    const auto first = kernels::formed_squared_norms(a, d, true, Multiplier::kAmx);
    const auto again = kernels::formed_squared_norms(a, d, true, Multiplier::kAmx);
    EXPECT_TRUE(test::same_bits(again.squared_norms, first.squared_norms));
    EXPECT_TRUE(test::same_bits(again.sum, first.sum));
  }
}

TEST_F(Amx, SumsOuterProducts) {
  for (const auto& [B, I, O] : {std::array{16, 16, 16}, {33, 50, 70}, {300, 784, 100}}) {
    const auto f = factors(B, 1, I, O);
    const auto found =
        kernels::outer_products(f.a.select(1, 0), f.d.select(1, 0), Multiplier::kAmx);
    const auto expected = twins::formed(f.a, f.d);
    const auto scale = std::sqrt(test::largest(expected.squared_norms)) * std::sqrt(B);
    EXPECT_TRUE(tensor_near(found.weight.sum, expected.sum, 1e-5, scale / std::sqrt(I * O)));
    EXPECT_TRUE(tensor_near(found.weight.squared_norms, expected.squared_norms, 1e-5,
                            test::largest(expected.squared_norms)));
  }
}

/// What it takes, and that float64, long sequences and narrow layers are not among it.
TEST_F(Amx, TakesWhatItIsFastFor) {
  const auto takes = [](int64_t S, int64_t I, int64_t O, at::ScalarType type) {
    const auto f = factors(1, S, I, O);
    return kernels::can_use_amx(f.a.to(type), f.d.to(type));
  };
  EXPECT_TRUE(takes(16, 16, 16, at::kFloat));
  EXPECT_FALSE(takes(16, 16, 16, at::kDouble));
  EXPECT_FALSE(takes(15, 64, 64, at::kFloat));
  EXPECT_FALSE(takes(2049, 64, 64, at::kFloat));
  EXPECT_FALSE(takes(64, 10, 64, at::kFloat));
  EXPECT_FALSE(takes(64, 64, 10, at::kFloat));
}

/// A linear layer of rows, and of positions, by each of its ways.
TEST_F(Amx, IsAWayOfLinearLayers) {
  const auto oracle_of = [](const at::Tensor& x, const ParameterList& p) {
    return dense_one_by_one(
        [&](int64_t i) { return at::linear(x.slice(0, i, i + 1), p[0], p[1]).tanh().sum(); },
        x.size(0), p);
  };
  const auto in = [](const at::Tensor& values, at::ScalarType type) {
    return values.detach().to(type).requires_grad_();
  };
  const struct {
    at::Tensor x;
    std::vector<std::string> ways;
  } cases[] = {{normal({20, 24}, 1), {"BLAS", "AMX"}},
               {normal({5, 20, 24}, 1), {"gram", "formed", "formed by AMX"}}};
  const auto weight = normal({32, 24}, 2), bias = normal({32}, 3);
  for (const auto& [x, ways] : cases) {
    const ParameterList p{in(weight, at::kFloat), in(bias, at::kFloat)};
    const auto run = [&, &x = x](const std::shared_ptr<MethodChoices>& choices) {
      Tape tape({.examples = x.size(0), .reduce = true, .choices = choices});
      const auto y =
          tape.record(rules::linear(x.to(at::kFloat), p[0], p[1]), [] { return at::Tensor(); });
      return tape.backward_reduced(y.tanh().flatten(1).sum(1), p).parameters;
    };
    const auto expected =
        oracle_of(x.to(at::kFloat).to(at::kDouble), {in(p[0], at::kDouble), in(p[1], at::kDouble)})
            .split_with_sizes({weight.numel(), bias.numel()}, 1);
    const auto fewest = std::make_shared<MethodChoices>();
    run(fewest);
    ASSERT_EQ(fewest->choices().size(), 1U);
    for (const auto& way : ways) {
      SCOPED_TRACE(way);
      const auto chosen = std::make_shared<MethodChoices>();
      chosen->keep(fewest->choices().begin()->first, way, "test");
      const auto found = run(chosen);
      EXPECT_EQ(found[0].reason, way + " (test)");
      for (size_t l = 0; l < 2; ++l) {
        const auto norms = expected[l].square().sum(1), sum = expected[l].sum(0);
        EXPECT_TRUE(tensor_near(found[l].squared_norms, norms, 1e-5, test::largest(norms)));
        EXPECT_TRUE(tensor_near(found[l].sum.flatten(), sum, 1e-5, test::largest(sum.abs())));
      }
    }
  }
}

}  // namespace
}  // namespace gradist
