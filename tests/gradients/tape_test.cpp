#include "gradients/tape.h"

#include "gradients/layer_rules.h"
#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

#include <string>

namespace gradist {
namespace {

using test::dense;
using test::dense_one_by_one;
using test::make_problem;
using test::normal;
using test::refusal;
using test::tensor_near;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> methods_of(const GradientBatch& batch) {
  std::vector<std::string> methods;
  for (const FactoredGradients& gradients : batch.parameters) methods.push_back(gradients.method());
  return methods;
}

at::Tensor parameter(std::vector<int64_t> sizes, uint64_t seed) {
  return normal(std::move(sizes), seed).requires_grad_();
}

at::Tensor half_squared(const at::Tensor& outputs) {
  return outputs.square().flatten(1).sum(1) / 2;
}

class TapeOnProblems : public ::testing::TestWithParam<std::string> {};

TEST_P(TapeOnProblems, GradientsAreThoseOfEachExampleAlone) {
  const auto problem = make_problem(GetParam());
  const auto indices = at::tensor({4, 0, 2, 2}, at::kLong);
  const auto batch = problem.source->gradients(indices);
  EXPECT_TRUE(tensor_near(dense(batch), problem.source->oracle().index_select(0, indices), 1e-10));
}

TEST_P(TapeOnProblems, GradientsInFloatAreNear) {
  const auto exact = make_problem(GetParam()), rounded = make_problem(GetParam(), at::kFloat);
  const auto indices = at::arange(rounded.source->examples(), at::kLong);
  const auto batch = rounded.source->gradients(indices);
  EXPECT_EQ(batch.parameters.front().backprops().scalar_type(), at::kFloat);
  EXPECT_TRUE(tensor_near(dense(batch), exact.source->oracle(), 1e-5));
}

TEST_P(TapeOnProblems, SaysHowEachGradientCameAbout) {
  const auto problem = make_problem(GetParam());
  EXPECT_EQ(methods_of(problem.source->gradients(at::arange(3, at::kLong))), problem.methods);
}

TEST_P(TapeOnProblems, FactorsHaveTheShapeOfTheirParameters) {
  const auto problem = make_problem(GetParam());
  const auto batch = problem.source->gradients(at::arange(3, at::kLong));
  ASSERT_EQ(batch.parameters.size(), problem.source->parameters().size());
  for (size_t l = 0; l < batch.parameters.size(); ++l) {
    EXPECT_EQ(batch.parameters[l].shape(), problem.source->parameters()[l].sizes().vec());
    EXPECT_FALSE(batch.parameters[l].activations().requires_grad());
    EXPECT_FALSE(batch.parameters[l].backprops().requires_grad());
  }
  EXPECT_FALSE(batch.losses.requires_grad());
}

TEST_P(TapeOnProblems, LeaveNoTraceOnTheParameters) {
  const auto problem = make_problem(GetParam());
  const auto before = copy_parameters(*problem.source);
  problem.source->gradients(at::arange(3, at::kLong));
  for (size_t l = 0; l < before.size(); ++l) {
    EXPECT_FALSE(problem.source->parameters()[l].grad().defined());
    EXPECT_TRUE(problem.source->parameters()[l].requires_grad());
  }
  EXPECT_TRUE(test::same_bits(before, copy_parameters(*problem.source)));
}

INSTANTIATE_TEST_SUITE_P(Problems, TapeOnProblems, ::testing::ValuesIn(test::problem_names()),
                         [](const auto& tested) { return tested.param; });

/// Two layers with a rectifier between them, which works in place or not.
struct TwoLayers {
  ParameterList parameters{parameter({4, 3}, 1), parameter({4}, 2), parameter({2, 4}, 3),
                           parameter({2}, 4)};

  at::Tensor losses(Tape* tape, const at::Tensor& inputs, bool in_place = false) const {
    at::Tensor hidden = linear(tape, inputs, parameters[0], parameters[1]);
    hidden = in_place ? hidden.relu_() : hidden.relu();
    return half_squared(linear(tape, hidden, parameters[2], parameters[3]).tanh());
  }

  at::Tensor oracle(const at::Tensor& inputs) const {
    return dense_one_by_one(
        [&](int64_t i) { return losses(nullptr, inputs.slice(0, i, i + 1)).sum(); }, inputs.size(0),
        parameters);
  }
};

TEST(Tape, ARectifierInPlaceChangesNothing) {
  const TwoLayers model;
  const auto inputs = normal({5, 3}, 5);
  Tape plain, in_place;
  const auto expected = plain.backward(model.losses(&plain, inputs), model.parameters);
  const auto actual = in_place.backward(model.losses(&in_place, inputs, true), model.parameters);
  EXPECT_TRUE(tensor_near(dense(actual), dense(expected), 1e-14));
  EXPECT_TRUE(tensor_near(dense(actual), model.oracle(inputs), 1e-10));
}

TEST(Tape, InputsMayHaveAnyNumberOfPositions) {
  const TwoLayers model;
  for (const auto& sizes : {std::vector<int64_t>{5, 3}, {5, 4, 3}, {5, 2, 4, 3}, {1, 1, 3}}) {
    const auto inputs = normal(sizes, 6);
    Tape tape;
    const auto batch = tape.backward(model.losses(&tape, inputs), model.parameters);
    EXPECT_EQ(batch.parameters[0].positions(), inputs.numel() / (3 * inputs.size(0)));
    EXPECT_EQ(batch.parameters[1].positions(), 1);
    EXPECT_TRUE(tensor_near(dense(batch), model.oracle(inputs), 1e-10)) << inputs.sizes();
  }
}

// Autograd has to reach a first layer without a bias as well, though nothing before it wants a
// gradient.
TEST(Tape, ReachesAFirstLayerWithoutBias) {
  const auto weight = parameter({2, 3}, 7);
  const auto inputs = normal({5, 3}, 8);
  Tape tape;
  const auto batch = tape.backward(half_squared(tape.linear(inputs, weight, {})), {weight});
  const auto y = inputs.matmul(weight.detach().t());
  EXPECT_TRUE(
      tensor_near(batch.parameters[0].dense(), at::einsum("bo,bi->boi", {y, inputs}), 1e-12));
}

TEST(Tape, InputsThatRequireGradientsAreNotTouched) {
  const TwoLayers model;
  const auto inputs = normal({5, 3}, 9).requires_grad_();
  Tape tape;
  const auto batch = tape.backward(model.losses(&tape, inputs), model.parameters);
  EXPECT_TRUE(tensor_near(dense(batch), model.oracle(inputs.detach()), 1e-10));
  EXPECT_FALSE(inputs.grad().defined());
}

TEST(Tape, LossesComeAlong) {
  const TwoLayers model;
  const auto inputs = normal({5, 3}, 10);
  Tape tape;
  const auto batch = tape.backward(model.losses(&tape, inputs), model.parameters);
  EXPECT_TRUE(tensor_near(batch.losses, model.losses(nullptr, inputs).detach(), 1e-14));
}

TEST(Tape, TiedWeightsCountEveryUse) {
  const auto weight = parameter({3, 3}, 11);
  const auto losses = [&](Tape* tape, const at::Tensor& x) {
    at::Tensor hidden = x;
    for (int use = 0; use < 3; ++use) hidden = linear(tape, hidden, weight, {}).tanh();
    return half_squared(hidden);
  };
  const auto inputs = normal({4, 3}, 12);
  Tape tape;
  const auto batch = tape.backward(losses(&tape, inputs), {weight});
  EXPECT_EQ(batch.parameters[0].positions(), 3);
  const auto loss = [&](int64_t i) { return losses(nullptr, inputs.slice(0, i, i + 1)).sum(); };
  EXPECT_TRUE(tensor_near(dense(batch), dense_one_by_one(loss, 4, {weight}), 1e-10));
}

// An embedding and the head tied to it stay apart for their norms, also once they are settled.
TEST(Tape, NormsOfATiedEmbeddingAndHeadAreThoseOfTheirSum) {
  const auto weight = parameter({7, 3}, 30);
  const auto tokens = at::randint(7, {4, 5}, test::generator_of(31), at::kLong);
  const auto losses = [&](Tape* tape, const at::Tensor& rows) {
    const auto plain = [&] { return at::embedding(weight, rows); };
    const auto x =
        tape != nullptr ? tape->record(rules::embedding(rows, weight, -1), plain) : plain();
    return half_squared(linear(tape, x.tanh(), weight, {}).tanh());
  };
  const auto loss = [&](int64_t i) { return losses(nullptr, tokens.slice(0, i, i + 1)).sum(); };
  const auto expected = dense_one_by_one(loss, 4, {weight});
  const auto near = [&](const NormsAndSum& found) {
    EXPECT_EQ(found.method, "embedding, linear");
    EXPECT_TRUE(tensor_near(found.squared_norms, expected.square().sum(1), 1e-10));
    EXPECT_TRUE(tensor_near(found.sum.flatten(), expected.sum(0), 1e-10));
  };
  Tape tape({.reduce = true, .choices = nullptr});
  near(tape.backward_reduced(losses(&tape, tokens), {weight}).parameters[0]);
  tape.settle({weight}, {});
  near(*tape.norms_and_sums({weight})[0]);
  EXPECT_TRUE(tensor_near(tape.factors({weight})[0]->dense().flatten(1), expected, 1e-10));
}

// A layer's output may be used twice, and a layer may not reach the loss at all.
TEST(Tape, BranchesAddUpAndDeadEndsCountNothing) {
  const auto weight = parameter({2, 3}, 13), dead = parameter({2, 3}, 14);
  const auto losses = [&](Tape* tape, const at::Tensor& x) {
    const auto y = linear(tape, x, weight, {});
    linear(tape, x, dead, {});
    return half_squared(y.tanh() + y.sigmoid());
  };
  const auto inputs = normal({4, 3}, 15);
  Tape tape;
  const auto batch = tape.backward(losses(&tape, inputs), {weight, dead});
  EXPECT_THAT(methods_of(batch), ElementsAre("linear", "unused"));
  const auto loss = [&](int64_t i) { return losses(nullptr, inputs.slice(0, i, i + 1)).sum(); };
  EXPECT_TRUE(tensor_near(dense(batch), dense_one_by_one(loss, 4, {weight, dead}), 1e-10));
}

TEST(Tape, ALossWithoutParametersHasNoGradient) {
  const auto weight = parameter({2, 3}, 16);
  Tape tape;
  const auto batch = tape.backward(at::ones({4}, at::kDouble), {weight});
  EXPECT_THAT(methods_of(batch), ElementsAre("unused"));
  EXPECT_EQ(batch.size(), 4);
  EXPECT_EQ(test::largest(dense(batch)), 0);
}

// A transposed or scaled weight is not the parameter itself: each example's gradient with respect
// to it is pulled back to the parameter, here also used as it is.
TEST(Tape, GradientsOfComputedWeightsArePulledBackToTheirParameters) {
  const auto weight = parameter({3, 2}, 17), bias = parameter({2}, 18);
  const auto losses = [&](Tape* tape, const at::Tensor& x) {
    const auto hidden = linear(tape, x, weight.t(), bias * 2).tanh();
    return half_squared(linear(tape, hidden, weight, {}));
  };
  const auto inputs = normal({4, 3}, 19);
  const auto loss = [&](int64_t i) { return losses(nullptr, inputs.slice(0, i, i + 1)).sum(); };
  Tape tape;
  const auto batch = tape.backward(losses(&tape, inputs), {weight, bias}, loss);
  EXPECT_THAT(methods_of(batch), ElementsAre("linear", "bias"));
  EXPECT_TRUE(tensor_near(dense(batch), dense_one_by_one(loss, 4, {weight, bias}), 1e-10));
}

TEST(Tape, ParametersOutsideTheTableNeedTheLossOfAnExample) {
  const auto weight = parameter({2, 3}, 20), scale = parameter({2}, 21);
  Tape tape;
  const auto losses = half_squared(tape.linear(normal({4, 3}, 22), weight, {}) * scale);
  EXPECT_THAT(
      refusal([&] {
        tape.backward(losses, {weight, scale});
      }),
      AllOf(test::is_one_line(), HasSubstr("parameter 1"), HasSubstr("outside the layers")));
}

TEST(Tape, LossesAreOneNumberAnExample) {
  const auto weight = parameter({2, 3}, 23);
  const auto backward = [&](auto loss_of) {
    Tape tape;
    tape.backward(loss_of(tape.linear(normal({4, 3}, 24), weight, {})), {weight});
  };
  EXPECT_THAT(refusal([&] { backward([](const at::Tensor& y) { return y.sum(); }); }),
              AllOf(test::is_one_line(), HasSubstr("[B]"), HasSubstr("[]")));
  EXPECT_THAT(refusal([&] { backward([](const at::Tensor& y) { return y.square(); }); }),
              AllOf(test::is_one_line(), HasSubstr("[4, 2]")));
  EXPECT_EQ(refusal([&] { backward([](const at::Tensor& y) { return y.sum(1); }); }), "");
}

TEST(Tape, AnInputChangedAfterItsUseIsRefused) {
  const auto weight = parameter({2, 3}, 25), bias = parameter({2}, 26);
  const auto backward = [&](const ParameterList& parameters) {
    const auto inputs = normal({4, 3}, 27);
    Tape tape;
    const auto losses = half_squared(tape.linear(inputs, weight, bias));
    inputs.mul_(2);
    return tape.backward(losses, parameters);
  };
  EXPECT_THAT(refusal([&] { backward({weight}); }),
              AllOf(test::is_one_line(), HasSubstr("changed in place")));
  // The bias does not depend on the input.
  EXPECT_EQ(refusal([&] { backward({bias}); }), "");
}

TEST(Tape, ALayerWithoutATapeIsPlain) {
  const auto weight = parameter({2, 3}, 28), bias = parameter({2}, 29);
  const auto inputs = normal({4, 3}, 30);
  const auto y = linear(nullptr, inputs, weight, bias);
  EXPECT_TRUE(test::same_bits(y, at::linear(inputs, weight, bias)));
  EXPECT_TRUE(y.requires_grad());
}

}  // namespace
}  // namespace gradist
