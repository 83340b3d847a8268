#include "gradients/amx_linear.h"

#include "gradients/amx.h"
#include "gradients/layer_rules.h"
#include "gradients/method_choice.h"
#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/threads.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <array>
#include <cmath>
#include <memory>
#include <vector>

namespace gradist {
namespace {

using detail::can_multiply_by_amx;
using detail::linear_backprops_by_amx;
using detail::linear_outputs_by_amx;
using test::normal;
using test::tensor_near;

class AmxLinear : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!detail::has_amx()) {
      GTEST_SKIP() << "no AMX here";
    }
  }
};

at::Tensor in_float(std::vector<int64_t> shape, uint64_t seed) {
  return normal(std::move(shape), seed).to(at::kFloat);
}

/// Both products against float64, to 1e-5 of a sum of squared terms' root.
void expect_right(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  ASSERT_TRUE(can_multiply_by_amx(x, weight, bias));
  const auto wide = [](const at::Tensor& t) { return t.defined() ? t.to(at::kDouble) : t; };
  const auto scale = [](int64_t terms) { return std::sqrt(static_cast<double>(terms)); };
  const auto y = linear_outputs_by_amx(x, weight, bias);
  const auto expected = at::linear(wide(x), wide(weight), wide(bias));
  EXPECT_TRUE(tensor_near(y, expected, 1e-5, scale(weight.size(1))));
  const auto d = in_float(y.sizes().vec(), 7);
  EXPECT_TRUE(tensor_near(linear_backprops_by_amx(d, weight), at::matmul(wide(d), wide(weight)),
                          1e-5, scale(weight.size(0))));
}

// Rows, inputs and outputs that fill tiles, and one more; several blocks of positions.
TEST_F(AmxLinear, GivesOutputsAndBackprops) {
  for (const auto& [N, I, O] : std::vector<std::array<int64_t, 3>>{
           {64, 64, 64}, {513, 65, 97}, {700, 100, 1030}, {130, 1030, 70}, {512, 2500, 64}}) {
    SCOPED_TRACE(::testing::Message() << "N " << N << " I " << I << " O " << O);
    const auto x = in_float({N, I}, 1), weight = in_float({O, I}, 2), bias = in_float({O}, 3);
    expect_right(x, weight, bias);
    expect_right(x, weight, {});
    expect_right(x, in_float({I, O}, 4).t(), bias);
    for (const auto threads : {1, 2, 3}) {
      const test::Threads scope(threads);
      const auto first = linear_outputs_by_amx(x, weight, bias);
      EXPECT_TRUE(test::same_bits(linear_outputs_by_amx(x, weight, bias), first)) << threads;
    }
  }
}

TEST_F(AmxLinear, TakesRowsOfAnyShapeAndDistance) {
  const auto weight = in_float({80, 70}, 1);
  const auto x = in_float({4, 150, 99}, 2);
  expect_right(x.slice(2, 9, 79), weight, {});
  expect_right(x.slice(2, 0, 70).contiguous(), weight, in_float({80}, 3));
  expect_right(x.flatten(0, 1).slice(1, 3, 73), weight, {});
  expect_right(x.slice(2, 0, 70).transpose(0, 1), weight, {});
  expect_right(in_float({70, 600}, 4).t(), weight, {});
}

/// A linear layer in the graph of its input, its products as these choices have it: by counting
/// operations, of which AMX has fewer for such shapes.
at::Tensor layer(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                 bool outputs, bool backprops) {
  const auto choices = std::make_shared<MethodChoices>();
  const auto use = rules::linear(input, weight, bias,
                                 {outputs ? choices : nullptr, backprops ? choices : nullptr});
  return use->forward();
}

TEST_F(AmxLinear, KeepsTheBitsThatItMustKeep) {
  const auto x = in_float({4, 150, 256}, 1), weight = in_float({256, 256}, 2),
             bias = in_float({256}, 3), d = in_float({4, 150, 256}, 4);
  for (const bool outputs : {false, true}) {
    for (const bool backprops : {false, true}) {
      const auto input = x.detach().requires_grad_();
      const auto y = layer(input, weight, bias, outputs, backprops);
      EXPECT_EQ(test::same_bits(y.detach(), at::linear(x, weight, bias)), !outputs);
      EXPECT_TRUE(!y.is_view() || !(outputs || backprops));
      const auto gradient = torch::autograd::grad({y}, {input}, {d})[0];
      EXPECT_EQ(test::same_bits(gradient, at::matmul(d, weight)), !backprops);
      EXPECT_TRUE(tensor_near(gradient, at::matmul(d.to(at::kDouble), weight.to(at::kDouble)), 1e-5,
                              std::sqrt(256.0)));
    }
  }
}

/// As a layer's output may be changed in place, and its gradient differentiated itself.
TEST_F(AmxLinear, IsAnOperationLikeAnyOther) {
  const auto x = in_float({600, 256}, 1), weight = in_float({256, 256}, 2);
  const auto second = [&](bool by_amx) {
    const auto input = x.detach().requires_grad_();
    auto y = layer(input, weight, {}, by_amx, by_amx);
    y.tanh_();
    const auto gradient = torch::autograd::grad({y.sum()}, {input}, {}, /*retain_graph=*/true,
                                                /*create_graph=*/true)[0];
    return torch::autograd::grad({gradient.square().sum()}, {input})[0];
  };
  const auto plain = second(false);
  EXPECT_TRUE(tensor_near(second(true), plain, 1e-4, test::largest(plain.abs())));
}

TEST_F(AmxLinear, RunsBackwardAgainOnlyIfTheGraphIsKept) {
  const auto input = in_float({600, 256}, 1).requires_grad_();
  const auto y = layer(input, in_float({256, 256}, 2), {}, true, true);
  const auto gradient = [&](bool keep) {
    return torch::autograd::grad({y.sum()}, {input}, {}, /*retain_graph=*/keep)[0];
  };
  const auto first = gradient(true);
  EXPECT_TRUE(test::same_bits(gradient(false), first));
  EXPECT_THROW(gradient(false), c10::Error);
}

TEST_F(AmxLinear, LeavesTheRestToTorch) {
  const auto x = in_float({600, 80}, 1), weight = in_float({70, 80}, 2), bias = in_float({70}, 3);
  ASSERT_TRUE(can_multiply_by_amx(x, weight, bias));
  EXPECT_FALSE(can_multiply_by_amx(x.to(at::kDouble), weight.to(at::kDouble), {}));
  EXPECT_FALSE(can_multiply_by_amx(x, weight.to(at::kDouble), {}));
  EXPECT_FALSE(can_multiply_by_amx(x.slice(0, 0, 63), weight, {}));
  EXPECT_FALSE(can_multiply_by_amx(x.slice(1, 0, 60), weight.slice(1, 0, 60), {}));
  EXPECT_FALSE(can_multiply_by_amx(x, weight.slice(0, 0, 10), {}));
  EXPECT_FALSE(can_multiply_by_amx(x.slice(1, 0, 70), weight, {})) << "the shapes do not fit";
  EXPECT_FALSE(can_multiply_by_amx(x.to_sparse_csr(), weight, {}));
  EXPECT_FALSE(can_multiply_by_amx(x, weight, bias.slice(0, 0, 1).expand({70})));
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const bool under_autocast = can_multiply_by_amx(x, weight, {});
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_FALSE(under_autocast);
}

TEST_F(AmxLinear, LeavesInfinitiesToTorch) {
  auto x = in_float({600, 80}, 1);
  const auto weight = in_float({70, 80}, 2);
  for (const float large : {INFINITY, NAN, 3.4e38F}) {
    x[3][5] = large;
    EXPECT_FALSE(linear_outputs_by_amx(x, weight, {}).defined()) << large;
  }
  // In the backward pass too.
  const auto input = in_float({600, 256}, 1).requires_grad_(), square = in_float({256, 256}, 2);
  auto d = in_float({600, 256}, 4);
  d[0][0] = INFINITY;
  const auto y = layer(input, square, {}, true, true);
  EXPECT_TRUE(test::same_bits(torch::autograd::grad({y}, {input}, {d})[0], at::matmul(d, square)));
}

}  // namespace
}  // namespace gradist
