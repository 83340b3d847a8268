#include "gradients/kernels.h"

#include "support/devices.h"
#include "support/kernel_twins.h"
#include "support/problems.h"
#include "support/property.h"
#include "support/tensor_near.h"
#include "support/threads.h"

#include <ATen/ATen.h>

#include <cmath>
#include <ostream>
#include <vector>

namespace gradist {
namespace {

using kernels::Formed;
using kernels::ScaleShift;
using test::any_between;
using test::normal;
using test::OnDevice;
using test::tensor_near;
using test::Threads;
namespace twins = test::twins;

class Kernels : public OnDevice {};
INSTANTIATE_TEST_SUITE_P(Devices, Kernels, test::all_devices(), test::device_name);

constexpr at::ScalarType kTypes[] = {at::kDouble, at::kFloat, at::kBFloat16, at::kHalf};

/// What the engine promises: 1e-10 in float64, of which a single sum gets a hundredth, and 1e-5 for
/// sums in float32.
double tolerance(at::ScalarType type) { return type == at::kDouble ? 1e-12 : 1e-5; }

at::ScalarType result_type(at::ScalarType type) {
  return type == at::kDouble ? at::kDouble : at::kFloat;
}

/// Factors of given sizes; the twin sees the same numbers, rounded to `type`.
struct Factors {
  at::Tensor a, d;
};
Factors factors(int64_t B, int64_t S, int64_t I, int64_t O, at::ScalarType type,
                at::DeviceType device, uint64_t seed = 1) {
  return {normal({B, S, I}, 2 * seed).to(device, type),
          normal({B, S, O}, 2 * seed + 1).to(device, type)};
}

/// A sum of n terms of either sign amounts to about the root of the sum of their squares, whatever
/// cancels: the scale of its rounding errors.
double norm_scale(const Factors& f) {
  const auto squares = [](const at::Tensor& x) { return twins::wide(x).square().sum(2); };
  return test::largest((squares(f.a) * squares(f.d)).sum(1));
}
double sum_scale(const Factors& f) {
  return std::sqrt(
      test::largest(twins::gradients(twins::wide(f.a).square(), twins::wide(f.d).square()).sum(0)));
}

::testing::AssertionResult all_of(const std::vector<::testing::AssertionResult>& results) {
  for (const auto& result : results) {
    if (!result) return result;
  }
  return ::testing::AssertionSuccess();
}

::testing::AssertionResult typed_near(const at::Tensor& actual, const at::Tensor& expected,
                                      at::ScalarType type, double scale) {
  if (actual.scalar_type() != result_type(type)) {
    return ::testing::AssertionFailure() << "result is " << actual.scalar_type();
  }
  return tensor_near(actual.to(at::kCPU), expected, tolerance(type), scale);
}

::testing::AssertionResult gram_is_right(const Factors& f) {
  return typed_near(kernels::gram_squared_norms(f.a, f.d), twins::formed(f.a, f.d).squared_norms,
                    f.a.scalar_type(), norm_scale(f));
}

::testing::AssertionResult formed_is_right(const Factors& f) {
  const auto actual = kernels::formed_squared_norms(f.a, f.d);
  const auto expected = twins::formed(f.a, f.d);
  const auto type = f.a.scalar_type();
  // Not every kernel has the sums over positions at hand.
  const auto sums = twins::wide(f.d).sum(1);
  return all_of({typed_near(actual.squared_norms, expected.squared_norms, type, norm_scale(f)),
                 typed_near(actual.sum, expected.sum, type, sum_scale(f)),
                 typed_near(actual.backprop_sums.defined() ? actual.backprop_sums
                                                           : sums.to(actual.sum.options()),
                            sums, type, test::largest(twins::wide(f.d).abs().sum(1)))});
}

TEST(FormedSquaredNorms, BringTheSumsOverPositionsAlong) {
  for (const auto type : {at::kFloat, at::kDouble}) {
    const auto f = factors(3, 1100, 40, 30, type, at::kCPU);
    EXPECT_TRUE(kernels::formed_squared_norms(f.a, f.d).backprop_sums.defined());
  }
}

struct Shape {
  int64_t B, S, I, O;
};
std::ostream& operator<<(std::ostream& out, const Shape& shape) {
  return out << "B " << shape.B << " S " << shape.S << " I " << shape.I << " O " << shape.O;
}

// Single positions, outputs and inputs; whole tiles and one past them; several blocks of positions,
// inputs and outputs; nothing at all.
const std::vector<Shape> kShapes{
    {3, 1, 5, 4},     {2, 7, 1, 9},     {5, 3, 17, 1},    {1, 1, 1, 1},     {2, 2, 33, 9},
    {3, 64, 32, 16},  {2, 65, 33, 17},  {2, 257, 40, 24}, {1, 300, 300, 7}, {2, 40, 20, 300},
    {17, 12, 31, 15}, {1, 513, 64, 64}, {2, 129, 3, 2},   {0, 3, 4, 5},     {3, 0, 4, 5},
    {2, 3, 0, 5},     {2, 3, 4, 0}};

TEST_P(Kernels, GramSquaredNorms) {
  for (const auto type : kTypes) {
    for (const auto& [B, S, I, O] : kShapes) {
      EXPECT_TRUE(gram_is_right(factors(B, S, I, O, type, GetParam())))
          << type << " " << Shape{B, S, I, O};
    }
  }
}

TEST_P(Kernels, FormedSquaredNorms) {
  for (const auto type : kTypes) {
    for (const auto& [B, S, I, O] : kShapes) {
      EXPECT_TRUE(formed_is_right(factors(B, S, I, O, type, GetParam())))
          << type << " " << Shape{B, S, I, O};
    }
  }
}

TEST_P(Kernels, SquaredNormsOfAnyShape) {
  EXPECT_TRUE(rc::check("squared norms of any shape", [&] {
    const auto type = kTypes[any_between(0, 3)];
    const auto f =
        factors(any_between(0, 9), any_between(0, 90), any_between(0, 70), any_between(0, 40), type,
                GetParam(), static_cast<uint64_t>(any_between(0, 1'000'000)));
    RC_ASSERT(static_cast<bool>(gram_is_right(f)));
    RC_ASSERT(static_cast<bool>(formed_is_right(f)));
  }));
}

// Channels-first factors, slices, broadcast ones: no tensor needs to be contiguous, nor of one
// type.
TEST_P(Kernels, SquaredNormsOfAnyStridesAndMixedTypes) {
  for (const auto type : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const auto whole = factors(6, 40, 48, 36, type, GetParam());
    const std::vector<Factors> views{
        {normal({6, 48, 40}, 8).to(GetParam(), type).transpose(1, 2),
         normal({6, 36, 40}, 9).to(GetParam(), type).transpose(1, 2)},
        {whole.a.slice(0, 0, 6, 2).slice(2, 3, 20), whole.d.slice(0, 0, 6, 2).slice(2, 1, 36, 3)},
        {at::ones({1, 1, 1}, whole.a.options()).expand({6, 40, 1}), whole.d},
        {whole.a.transpose(0, 1).contiguous().transpose(0, 1), whole.d},
    };
    for (size_t v = 0; v < views.size(); ++v) {
      EXPECT_TRUE(gram_is_right(views[v])) << type << " view " << v;
      EXPECT_TRUE(formed_is_right(views[v])) << type << " view " << v;
    }
  }
  auto mixed = factors(3, 20, 16, 24, at::kFloat, GetParam());
  mixed.d = mixed.d.to(at::kBFloat16);
  EXPECT_TRUE(formed_is_right(mixed));
  EXPECT_TRUE(gram_is_right(mixed));
}

TEST_P(Kernels, SquaredNormsAreTheSameInEveryRun) {
  const auto f = factors(9, 70, 90, 70, at::kFloat, GetParam());
  const auto run = [&](int threads) {
    const Threads scope(threads);
    const auto formed = kernels::formed_squared_norms(f.a, f.d);
    return ParameterList{kernels::gram_squared_norms(f.a, f.d), formed.squared_norms, formed.sum};
  };
  for (const auto threads : {1, 2}) {
    const auto first = run(threads);
    EXPECT_TRUE(test::same_bits(run(threads), first)) << threads << " threads";
  }
}

// Positions are summed in blocks; an infinity stays in its own row or column of g_i.
TEST_P(Kernels, FormedSquaredNormsOfLongSequencesAndInfinities) {
  EXPECT_TRUE(formed_is_right(factors(2, 5000, 13, 21, at::kFloat, GetParam())));
  EXPECT_TRUE(formed_is_right(factors(2, 5000, 13, 21, at::kDouble, GetParam())));
  auto f = factors(2, 6, 13, 21, at::kFloat, GetParam());
  f.a.select(0, 1).fill_(INFINITY);
  f.d.abs_();
  const auto norms = kernels::formed_squared_norms(f.a, f.d).squared_norms.to(at::kCPU);
  EXPECT_TRUE(std::isfinite(norms[0].item<double>()));
  EXPECT_EQ(norms[1].item<double>(), INFINITY);
}

// Rows short and long, with as many threads as are worth it.
TEST_P(Kernels, RowSquaredNorms) {
  for (const auto type : kTypes) {
    for (const auto& [B, n] : {std::pair{0, 3}, {4, 0}, {5, 1}, {7, 70}, {40, 3000}}) {
      const auto rows = normal({B, n}, 3).to(GetParam(), type);
      const auto found = kernels::row_squared_norms(rows);
      const auto wide = twins::wide(rows);
      EXPECT_TRUE(typed_near(found.squared_norms, wide.square().sum(1), type,
                             test::largest(wide.square().sum(1))))
          << type << " " << B << " " << n;
      EXPECT_TRUE(typed_near(found.sum, wide.sum(0), type, test::largest(wide.abs().sum(0))))
          << type << " " << B << " " << n;
    }
  }
}

// g_i = d_i a_i^T: as one position of a sequence, and its bias as a layer whose input is 1.
TEST_P(Kernels, OuterProducts) {
  for (const auto type : kTypes) {
    for (const auto& [B, S, I, O] : kShapes) {
      const auto f = factors(B, 1, I, O, type, GetParam());
      const auto found = kernels::outer_products(f.a.select(1, 0), f.d.select(1, 0));
      const auto right = [&](const Formed& actual, const Factors& of) {
        const auto expected = twins::formed(of.a, of.d);
        return all_of(
            {typed_near(actual.squared_norms, expected.squared_norms, type, norm_scale(of)),
             typed_near(actual.sum.reshape(expected.sum.sizes()), expected.sum, type,
                        sum_scale(of))});
      };
      EXPECT_TRUE(right(found.weight, f)) << type << " " << Shape{B, 1, I, O};
      EXPECT_TRUE(right(found.bias, {at::ones({B, 1, 1}, f.a.options()), f.d}))
          << type << " " << Shape{B, 1, I, O};
    }
  }
}

// The rows of an embedding are a linear layer's gradients for one-hot inputs, transposed.
TEST_P(Kernels, TokenSquaredNorms) {
  constexpr int64_t kCount = 11;
  for (const auto type : {at::kDouble, at::kFloat, at::kBFloat16}) {
    for (const auto& [B, S, I, O] : kShapes) {
      if (B == 0 || S == 0 || I == 0) continue;
      const auto tokens = (normal({B, S}, 3) * 4).to(at::kLong).remainder(kCount).to(GetParam());
      const auto d = normal({B, S, I}, 4).to(GetParam(), type);
      const Factors f{d, at::one_hot(tokens, kCount).to(type)};
      const auto actual = kernels::token_squared_norms(tokens, d, kCount);
      const auto expected = twins::formed(f.a, f.d);
      EXPECT_TRUE(typed_near(actual.squared_norms, expected.squared_norms, type, norm_scale(f)))
          << type << " " << Shape{B, S, I, kCount};
      EXPECT_TRUE(typed_near(actual.sum, expected.sum, type, sum_scale(f)))
          << type << " " << Shape{B, S, I, kCount};
    }
  }
}

// ---- convolutions

struct Convolution {
  at::Tensor x, d;
  kernels::ConvGeometry geometry;
};
Convolution convolution(int64_t B, int64_t C, int64_t O, int64_t height, int64_t width,
                        const kernels::ConvGeometry& geometry, at::ScalarType type,
                        at::DeviceType device, uint64_t seed = 1) {
  const auto x = normal({B, C, height, width}, 2 * seed);
  const auto weight =
      at::zeros({O, C / geometry.groups, geometry.kernel[0], geometry.kernel[1]}, at::kDouble);
  const auto y = at::conv2d(x, weight, {}, geometry.stride, geometry.padding, geometry.dilation,
                            geometry.groups);
  return {x.to(device, type), normal(y.sizes().vec(), 2 * seed + 1).to(device, type), geometry};
}

::testing::AssertionResult conv_is_right(const Convolution& c) {
  const auto type = c.x.scalar_type();
  const auto actual = kernels::conv_squared_norms(c.x, c.d, c.geometry);
  const auto alone = kernels::conv_squared_norms(c.x, c.d, c.geometry, /*with_sum=*/false);
  const auto expected = twins::conv(c.x, c.d, c.geometry);
  // The terms d_is a_is^T of either sign, as for a linear layer: their squares are those of the
  // same convolution with squared factors.
  const auto squares =
      twins::conv(twins::wide(c.x).square(), twins::wide(c.d).square(), c.geometry);
  const double norm_terms = squares.sum.sum().item<double>();
  if (alone.sum.defined()) return ::testing::AssertionFailure() << "a sum nobody asked for";
  return all_of(
      {typed_near(actual.squared_norms, expected.squared_norms, type, norm_terms),
       typed_near(alone.squared_norms, expected.squared_norms, type, norm_terms),
       typed_near(actual.sum, expected.sum, type, std::sqrt(test::largest(squares.sum)))});
}

TEST_P(Kernels, ConvSquaredNorms) {
  using kernels::ConvGeometry;
  for (const auto type : kTypes) {
    const auto check = [&](int64_t B, int64_t C, int64_t O, int64_t height, int64_t width,
                           const ConvGeometry& geometry) {
      EXPECT_TRUE(conv_is_right(convolution(B, C, O, height, width, geometry, type, GetParam())))
          << type << " " << B << " " << C << " " << O << " " << height << " " << width;
    };
    check(3, 4, 5, 7, 6, {.kernel = {3, 3}, .padding = {1, 1}});
    check(2, 3, 70, 9, 9, {.kernel = {3, 2}, .stride = {2, 3}, .padding = {0, 1}});
    check(2, 6, 4, 8, 8, {.kernel = {3, 3}, .dilation = {2, 1}, .groups = 2});
    check(2, 8, 8, 5, 5, {.kernel = {3, 3}, .padding = {1, 1}, .groups = 8});
    check(1, 16, 33, 20, 20, {.kernel = {3, 3}, .padding = {1, 1}});
    check(4, 3, 5, 1, 30, {.kernel = {1, 5}, .stride = {1, 2}, .padding = {0, 2}});
    check(3, 7, 1, 4, 4, {});
    check(0, 4, 6, 5, 5, {.kernel = {3, 3}, .groups = 2});
  }
}

// Sums that no cache holds: examples go in groups, and threads take columns instead of examples.
TEST_P(Kernels, ConvSquaredNormsOfLargeWeights) {
  const kernels::ConvGeometry plain{.kernel = {3, 3}, .padding = {1, 1}};
  const kernels::ConvGeometry dilated{.kernel = {3, 3}, .padding = {2, 2}, .dilation = {2, 2}};
  for (const auto type : {at::kDouble, at::kFloat}) {
    for (const auto threads : {1, 2, 3}) {
      const Threads scope(threads);
      const auto check = [&](int64_t B, int64_t C, int64_t O, const kernels::ConvGeometry& how) {
        EXPECT_TRUE(conv_is_right(convolution(B, C, O, 4, 5, how, type, GetParam())))
            << type << " " << threads << " threads " << B << " " << C << " " << O;
      };
      check(35, 90, 101, plain);
      check(21, 201, 150, plain);
      check(2, 201, 150, dilated);
    }
  }
}

// The few inputs of a position that lie side by side leave registers empty: they are brought
// together. As images channel by channel, and with the channels last.
TEST_P(Kernels, ConvSquaredNormsOfFewChannels) {
  using kernels::ConvGeometry;
  for (const auto type : {at::kDouble, at::kFloat}) {
    const auto check = [&](int64_t C, int64_t O, const ConvGeometry& geometry) {
      auto c = convolution(3, C, O, 17, 14, geometry, type, GetParam());
      EXPECT_TRUE(conv_is_right(c)) << type << " " << C << " " << O;
      c.x = c.x.contiguous(at::MemoryFormat::ChannelsLast);
      c.d = c.d.contiguous(at::MemoryFormat::ChannelsLast);
      EXPECT_TRUE(conv_is_right(c)) << type << " " << C << " " << O << " channels last";
    };
    check(1, 16, {.kernel = {8, 8}, .stride = {2, 2}, .padding = {3, 3}});
    check(1, 40, {.kernel = {3, 3}, .padding = {1, 1}});
    check(3, 70, {.kernel = {3, 3}, .stride = {1, 2}, .padding = {0, 1}});
    check(2, 33, {.kernel = {5, 2}, .padding = {2, 0}, .dilation = {2, 3}});
    check(1, 9, {.kernel = {7, 1}});
  }
}

TEST_P(Kernels, ConvSquaredNormsOfAnyShape) {
  EXPECT_TRUE(rc::check("convolutions of any shape", [&] {
    kernels::ConvGeometry geometry;
    geometry.groups = any_between(1, 3);
    for (size_t side = 0; side < 2; ++side) {
      geometry.kernel[side] = any_between(1, 3);
      geometry.stride[side] = any_between(1, 3);
      geometry.padding[side] = any_between(0, 2);
      geometry.dilation[side] = any_between(1, 2);
    }
    const auto c = convolution(any_between(0, 4), geometry.groups * any_between(1, 4),
                               geometry.groups * any_between(1, 20), any_between(5, 9),
                               any_between(5, 9), geometry, kTypes[any_between(0, 3)], GetParam(),
                               static_cast<uint64_t>(any_between(0, 1'000'000)));
    RC_ASSERT(static_cast<bool>(conv_is_right(c)));
  }));
}

// ---- normalisation layers

struct Normalised {
  at::Tensor x, d, mean, rstd;
};

::testing::AssertionResult near(const ScaleShift& actual, const ScaleShift& expected,
                                const ScaleShift& squares, at::ScalarType type) {
  return all_of(
      {typed_near(actual.scale, expected.scale, type, std::sqrt(test::largest(squares.scale))),
       typed_near(actual.shift, expected.shift, type, std::sqrt(test::largest(squares.shift)))});
}

/// Inputs [B, S, C] of LayerNorm, or without a mean of RMSNorm.
Normalised row_inputs(int64_t B, int64_t S, int64_t C, bool with_mean, at::ScalarType type,
                      at::DeviceType device, uint64_t seed = 1) {
  const auto place = [&](const at::Tensor& x, at::ScalarType t) { return x.to(device, t); };
  return {place(normal({B, S, C}, 4 * seed) + 1, type),
          place(normal({B, S, C}, 4 * seed + 1), type),
          with_mean ? place(normal({B, S}, 4 * seed + 2), result_type(type)) : at::Tensor(),
          place(normal({B, S}, 4 * seed + 3).exp(), result_type(type))};
}

::testing::AssertionResult row_norm_is_right(const Normalised& n) {
  const auto x = twins::wide(n.x);
  const auto centred = n.mean.defined() ? x - twins::wide(n.mean).unsqueeze(2) : x;
  return near(kernels::row_norm_gradients(n.x, n.d, n.mean, n.rstd),
              twins::row_norm(n.x, n.d, n.mean, n.rstd),
              twins::row_norm(centred.square(), twins::wide(n.d).square(), {},
                              twins::wide(n.rstd).square()),
              n.x.scalar_type());
}

TEST_P(Kernels, RowNormGradients) {
  const std::vector<std::vector<int64_t>> shapes{{3, 5, 7},    {2, 1, 1},   {1, 130, 64},
                                                 {4, 129, 33}, {2, 300, 5}, {0, 3, 4},
                                                 {2, 0, 4},    {2, 3, 0},   {2, 9, 1100}};
  for (const auto type : kTypes) {
    for (const auto& shape : shapes) {
      for (const bool with_mean : {true, false}) {
        EXPECT_TRUE(row_norm_is_right(
            row_inputs(shape[0], shape[1], shape[2], with_mean, type, GetParam())))
            << type << " " << shape << " mean " << with_mean;
      }
    }
  }
}

/// Inputs [B, C, S] of GroupNorm, or with one mean for all examples of BatchNorm in eval mode.
Normalised channel_inputs(int64_t B, int64_t C, int64_t S, bool own, at::ScalarType type,
                          at::DeviceType device, uint64_t seed = 1) {
  const auto place = [&](const at::Tensor& x, at::ScalarType t) { return x.to(device, t); };
  const auto rows = own ? B : 1;
  return {place(normal({B, C, S}, 4 * seed) + 1, type),
          place(normal({B, C, S}, 4 * seed + 1), type),
          place(normal({rows, C}, 4 * seed + 2), result_type(type)),
          place(normal({rows, C}, 4 * seed + 3).exp(), result_type(type))};
}

::testing::AssertionResult channel_norm_is_right(const Normalised& n) {
  const auto centred = twins::wide(n.x) - twins::wide(n.mean).unsqueeze(2);
  return near(
      kernels::channel_norm_gradients(n.x, n.d, n.mean, n.rstd),
      twins::channel_norm(n.x, n.d, n.mean, n.rstd),
      twins::channel_norm(centred.square(), twins::wide(n.d).square(),
                          at::zeros_like(twins::wide(n.mean)), twins::wide(n.rstd).square()),
      n.x.scalar_type());
}

TEST_P(Kernels, ChannelNormGradients) {
  const std::vector<std::vector<int64_t>> shapes{{3, 5, 7},  {2, 1, 1}, {1, 6, 2100}, {4, 33, 64},
                                                 {2, 3, 65}, {0, 3, 4}, {2, 0, 4},    {2, 3, 0}};
  for (const auto type : kTypes) {
    for (const auto& shape : shapes) {
      for (const bool own : {true, false}) {
        EXPECT_TRUE(channel_norm_is_right(
            channel_inputs(shape[0], shape[1], shape[2], own, type, GetParam())))
            << type << " " << shape << " own mean " << own;
      }
    }
  }
}

TEST_P(Kernels, NormGradientsOfAnyShape) {
  EXPECT_TRUE(rc::check("norm gradients of any shape", [&] {
    const auto type = kTypes[any_between(0, 3)];
    const auto B = any_between(0, 6), S = any_between(0, 200), C = any_between(0, 80);
    const bool flag = any_between(0, 1) == 1;
    const auto seed = static_cast<uint64_t>(any_between(0, 1'000'000));
    RC_ASSERT(
        static_cast<bool>(row_norm_is_right(row_inputs(B, S, C, flag, type, GetParam(), seed))));
    RC_ASSERT(static_cast<bool>(
        channel_norm_is_right(channel_inputs(B, C, S, flag, type, GetParam(), seed))));
  }));
}

TEST_P(Kernels, NormGradientsOfAnyStridesAndMixedTypes) {
  auto rows = row_inputs(4, 12, 10, true, at::kFloat, GetParam());
  rows.x = rows.x.transpose(1, 2).contiguous().transpose(1, 2);
  rows.mean = rows.mean.t().contiguous().t();
  EXPECT_TRUE(row_norm_is_right(rows));
  rows.d = rows.d.to(at::kBFloat16);
  EXPECT_TRUE(row_norm_is_right(rows));
  auto channels = channel_inputs(4, 12, 10, true, at::kFloat, GetParam());
  channels.d = channels.d.transpose(1, 2).contiguous().transpose(1, 2);
  EXPECT_TRUE(channel_norm_is_right(channels));
  channels.x = channels.x.to(at::kHalf);
  EXPECT_TRUE(channel_norm_is_right(channels));
}

// A plain running sum of float32 would be off by up to S 2^-24 = 6e-3 of the terms, which all have
// one sign here.
TEST_P(Kernels, NormGradientsKeepTheirDigitsOverLongSequences) {
  constexpr int64_t kPositions = 100'000;
  auto rows = row_inputs(1, kPositions, 3, true, at::kFloat, GetParam());
  rows.mean.fill_(-3);
  rows.d = rows.d.abs() + 0.1;
  const auto by_row = kernels::row_norm_gradients(rows.x, rows.d, rows.mean, rows.rstd);
  const auto expected_by_row = twins::row_norm(rows.x, rows.d, rows.mean, rows.rstd);
  EXPECT_TRUE(tensor_near(by_row.scale.to(at::kCPU), expected_by_row.scale, 1e-5));
  EXPECT_TRUE(tensor_near(by_row.shift.to(at::kCPU), expected_by_row.shift, 1e-5));

  auto channels = channel_inputs(1, 3, kPositions, true, at::kFloat, GetParam());
  channels.mean.fill_(-3);
  channels.d = channels.d.abs() + 0.1;
  const auto by_channel =
      kernels::channel_norm_gradients(channels.x, channels.d, channels.mean, channels.rstd);
  const auto expected = twins::channel_norm(channels.x, channels.d, channels.mean, channels.rstd);
  EXPECT_TRUE(tensor_near(by_channel.scale.to(at::kCPU), expected.scale, 1e-5));
  EXPECT_TRUE(tensor_near(by_channel.shift.to(at::kCPU), expected.shift, 1e-5));
}

// ---- running sums

// Two strata, the first cut into two segments: what MomentAccumulator's formulas say.
TEST_P(Kernels, AddSegment) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    for (const bool with_squares : {true, false}) {
      constexpr int64_t kCoordinates = 100'003;
      const auto options = at::TensorOptions(GetParam()).dtype(at::kDouble);
      const auto zeros = [&] { return at::zeros({kCoordinates}, options); };
      const auto S = normal({3, kCoordinates}, 5).to(GetParam(), type);
      const auto Q = normal({3, kCoordinates}, 6).square().to(GetParam(), type);
      const kernels::RunningSums sums{zeros(), with_squares ? zeros() : at::Tensor(),
                                      with_squares ? zeros() : at::Tensor(), zeros()};
      const auto norms = at::full({3}, -1, options);
      const std::vector<kernels::SegmentWeights> weights{
          {.visit = 2, .within = 3, .visited = 5, .whole = false, .last = false},
          {.visit = 2, .within = 3, .visited = 5, .whole = false, .last = true},
          {.visit = 0.5, .within = 1, .visited = 4}};
      for (int64_t s = 0; s < 3; ++s) {
        kernels::add_segment(S[s], with_squares ? Q[s] : at::Tensor(),
                             weights[static_cast<size_t>(s)], sums, norms[s]);
      }
      const auto s = twins::wide(S), q = twins::wide(Q);
      const auto first = s[0] + s[1];
      EXPECT_TRUE(tensor_near(sums.sum.to(at::kCPU), 2 * first + 0.5 * s[2], 1e-14));
      EXPECT_EQ(sums.open.abs().max().item<double>(), 0.0);
      EXPECT_TRUE(tensor_near(
          norms.to(at::kCPU),
          at::stack({at::zeros({}, at::kDouble), first.square().sum(), s[2].square().sum()}),
          1e-12));
      if (with_squares) {
        EXPECT_TRUE(tensor_near(sums.squares.to(at::kCPU), 2 * (q[0] + q[1]) + 0.5 * q[2], 1e-14));
        EXPECT_TRUE(tensor_near(sums.within.to(at::kCPU),
                                3 * (q[0] + q[1] - first.square() / 5) + q[2] - s[2].square() / 4,
                                1e-14));
      }
    }
  }
}

}  // namespace
}  // namespace gradist
