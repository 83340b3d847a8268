#include "gradients/layer_rules.h"

#include "gradients/tape.h"
#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <functional>
#include <ostream>
#include <string>

namespace gradist {
namespace {

using test::dense_one_by_one;
using test::normal;
using test::tensor_near;

constexpr int64_t kExamples = 4;

/// One layer of the table: the rule, torch's operation that it stands for, and sizes.
struct Layer {
  std::string name;
  std::vector<int64_t> input;  ///< without the examples
  std::vector<std::vector<int64_t>> parameters;
  std::function<rules::Use(const at::Tensor&, const ParameterList&)> rule;
  std::function<at::Tensor(const at::Tensor&, const ParameterList&)> plain;
  int64_t tokens = 0;  ///< the input is one of so many tokens

  friend void PrintTo(const Layer& layer, std::ostream* out) { *out << layer.name; }
};

Layer linear_layer(const std::string& name, std::vector<int64_t> leading) {
  leading.push_back(3);
  return {name,
          leading,
          {{5, 3}, {5}},
          [](const auto& x, const auto& p) { return rules::linear(x, p[0], p[1]); },
          [](const auto& x, const auto& p) { return at::linear(x, p[0], p[1]); }};
}

Layer convolution_layer(const std::string& name, std::vector<int64_t> input,
                        std::vector<int64_t> weight, int64_t outputs,
                        const rules::Convolution& how) {
  return {name,
          std::move(input),
          {std::move(weight), {outputs}},
          [how](const auto& x, const auto& p) { return rules::convolution(x, p[0], p[1], how); },
          [how](const auto& x, const auto& p) {
            return at::convolution(x, p[0], p[1], how.stride, how.padding, how.dilation,
                                   how.transposed, how.output_padding, how.groups);
          }};
}

at::Tensor statistics(int64_t channels, uint64_t seed) {
  return normal({channels}, seed).square() + 0.5;
}

std::vector<Layer> layers() {
  std::vector<Layer> all{
      linear_layer("linear", {}),
      linear_layer("linear_over_positions", {6}),
      linear_layer("linear_over_planes", {2, 4}),
      {"matmul",
       {6, 3},
       {{3, 5}},
       [](const auto& x, const auto& p) { return rules::matmul(x, p[0]); },
       [](const auto& x, const auto& p) { return at::matmul(x, p[0]); }},
      convolution_layer("convolution_1d", {3, 9}, {4, 3, 3}, 4, {{2}, {1}, {1}, false, {0}, 1}),
      convolution_layer("convolution_2d", {3, 6, 7}, {4, 3, 3, 2}, 4,
                        {{1, 2}, {1, 0}, {1, 2}, false, {0, 0}, 1}),
      convolution_layer("convolution_of_groups", {4, 5, 5}, {6, 2, 3, 3}, 6,
                        {{1, 1}, {1, 1}, {1, 1}, false, {0, 0}, 2}),
      convolution_layer("convolution_of_few_positions", {8, 3, 3}, {9, 8, 3, 3}, 9,
                        {{1, 1}, {0, 0}, {1, 1}, false, {0, 0}, 1}),
      convolution_layer("convolution_3d", {2, 4, 4, 3}, {3, 2, 2, 2, 2}, 3,
                        {{1, 2, 1}, {0, 1, 0}, {1, 1, 1}, false, {0, 0, 0}, 1}),
      convolution_layer("transposed_convolution", {3, 4, 4}, {3, 2, 3, 3}, 2,
                        {{2, 2}, {1, 1}, {1, 1}, true, {1, 0}, 1}),
      convolution_layer("transposed_convolution_of_groups", {4, 5}, {4, 2, 3}, 4,
                        {{2}, {0}, {1}, true, {0}, 2}),
  };
  for (const int64_t padding : {-1, 2}) {
    all.push_back(
        {padding < 0 ? "embedding" : "embedding_with_padding",
         {6},
         {{4, 3}},
         [padding](const auto& x, const auto& p) { return rules::embedding(x, p[0], padding); },
         [padding](const auto& x, const auto& p) { return at::embedding(p[0], x, padding); },
         4});
  }
  all.push_back({"layer_norm",
                 {5, 2, 3},
                 {{2, 3}, {2, 3}},
                 [](const auto& x, const auto& p) {
                   return rules::layer_norm(x, {2, 3}, p[0], p[1], 1e-5);
                 },
                 [](const auto& x, const auto& p) {
                   return at::layer_norm(x, {2, 3}, p[0], p[1], 1e-5);
                 }});
  all.push_back({"rms_norm",
                 {5, 6},
                 {{6}},
                 [](const auto& x, const auto& p) { return rules::rms_norm(x, {6}, p[0], 1e-5); },
                 [](const auto& x, const auto& p) { return at::rms_norm(x, {6}, p[0], 1e-5); }});
  for (const int64_t groups : {2, 4}) {
    all.push_back({groups == 2 ? "group_norm" : "instance_norm",
                   {4, 3, 3},
                   {{4}, {4}},
                   [groups](const auto& x, const auto& p) {
                     return rules::group_norm(x, groups, p[0], p[1], 1e-5);
                   },
                   [groups](const auto& x, const auto& p) {
                     return at::group_norm(x, groups, p[0], p[1], 1e-5);
                   }});
  }
  all.push_back({"batch_norm",
                 {3, 5},
                 {{3}, {3}},
                 [](const auto& x, const auto& p) {
                   return rules::batch_norm(x, statistics(3, 90).to(x), statistics(3, 91).to(x),
                                            p[0], p[1], 1e-5);
                 },
                 [](const auto& x, const auto& p) {
                   return at::batch_norm(x, p[0], p[1], statistics(3, 90).to(x),
                                         statistics(3, 91).to(x), false, 0.1, 1e-5, false);
                 }});
  all.push_back({"scale",
                 {3, 4},
                 {{3, 1}},
                 [](const auto& x, const auto& p) { return rules::scale(x, p[0]); },
                 [](const auto& x, const auto& p) { return x * p[0]; }});
  all.push_back({"shift",
                 {3, 4},
                 {{4}},
                 [](const auto& x, const auto& p) { return rules::shift(x, p[0], -2); },
                 [](const auto& x, const auto& p) { return x - 2 * p[0]; }});
  all.push_back({"custom",
                 {3},
                 {{3}},
                 [](const auto& x, const auto& p) {
                   const auto input = x.detach();
                   return rules::custom(x * p[0].detach(), {p[0]}, [input](const at::Tensor& d) {
                     return std::vector<at::Tensor>{d * input};
                   });
                 },
                 [](const auto& x, const auto& p) { return x * p[0]; }});
  return all;
}

class LayerRules : public ::testing::TestWithParam<Layer> {
 protected:
  ParameterList parameters(at::ScalarType dtype) const {
    ParameterList made;
    for (const auto& shape : GetParam().parameters) {
      made.push_back(normal(shape, 20 + made.size(), dtype).requires_grad_());
    }
    return made;
  }

  at::Tensor inputs(at::ScalarType dtype) const {
    auto sizes = GetParam().input;
    sizes.insert(sizes.begin(), kExamples);
    if (GetParam().tokens == 0) return normal(sizes, 10, dtype);
    return (normal(sizes, 10) * 10).to(at::kLong).remainder(GetParam().tokens);
  }

  /// tanh, so that the backprops depend on the parameters.
  static at::Tensor losses(const at::Tensor& outputs) {
    return outputs.tanh().square().flatten(1).sum(1) / 2;
  }

  at::Tensor recorded(Tape& tape, const at::Tensor& x, const ParameterList& p) const {
    return tape.record(GetParam().rule(x, p), [&] { return GetParam().plain(x, p); });
  }

  /// [B, P] float64.
  at::Tensor oracle() const {
    const auto x = inputs(at::kDouble);
    const auto p = parameters(at::kDouble);
    return dense_one_by_one(
        [&](int64_t i) { return losses(GetParam().plain(x.narrow(0, i, 1), p)).squeeze(0); },
        kExamples, p);
  }

  void expect_near(at::ScalarType dtype, double tolerance) const {
    const auto expected = oracle();
    const auto x = inputs(dtype);
    const auto p = parameters(dtype);
    Tape tape;
    EXPECT_TRUE(tensor_near(recorded(tape, x, p), GetParam().plain(x, p), tolerance));
    Tape again;
    const auto batch = again.backward(losses(recorded(again, x, p)), p);
    EXPECT_TRUE(tensor_near(test::dense(batch), expected, tolerance));
    EXPECT_TRUE(tensor_near(batch.squared_norms(), expected.square().sum(1), tolerance));
  }
};

TEST_P(LayerRules, GradientsAreThoseOfEachExampleAlone) { expect_near(at::kDouble, 1e-10); }

TEST_P(LayerRules, GradientsInFloatAreNear) { expect_near(at::kFloat, 1e-5); }

/// By the way with the fewest operations, and by the fastest one.
TEST_P(LayerRules, NormsAndSumAreThoseOfEachExampleAlone) {
  const auto expected = oracle();
  const auto x = inputs(at::kDouble);
  const auto p = parameters(at::kDouble);
  for (const bool measure : {false, true}) {
    Tape tape({.examples = kExamples,
               .reduce = true,
               .choices = std::make_shared<MethodChoices>(measure)});
    const auto reduced = tape.backward_reduced(losses(recorded(tape, x, p)), p);
    auto norms = at::zeros({kExamples}, at::kDouble);
    std::vector<at::Tensor> sums;
    for (const auto& each : reduced.parameters) {
      norms += each.squared_norms;
      sums.push_back(each.sum.flatten());
    }
    EXPECT_TRUE(tensor_near(norms, expected.square().sum(1), 1e-10));
    EXPECT_TRUE(tensor_near(at::cat(sums), expected.sum(0), 1e-10));
  }
}

INSTANTIATE_TEST_SUITE_P(Table, LayerRules, ::testing::ValuesIn(layers()),
                         [](const auto& layer) { return layer.param.name; });

/// More examples than any way takes at once.
TEST(ConvolutionRule, EveryWayGivesTheSameNormsAndSum) {
  const ParameterList weight{normal({4, 3, 3, 3}, 1).requires_grad_()};
  const auto x = normal({40, 3, 9, 8}, 2);
  const auto run = [&](const std::shared_ptr<MethodChoices>& choices) {
    Tape tape({.examples = 40, .reduce = true, .choices = choices});
    const auto y = tape.record(
        rules::convolution(
            x, weight[0], {},
            {.stride = {2, 1}, .padding = {1, 1}, .dilation = {1, 1}, .output_padding = {0, 0}}),
        [] { return at::Tensor(); });
    return tape.backward_reduced(y.tanh().flatten(1).sum(1), weight).parameters[0];
  };
  const auto expected = dense_one_by_one(
      [&](int64_t i) {
        return at::conv2d(x.slice(0, i, i + 1), weight[0], {}, {2, 1}, {1, 1}).tanh().sum();
      },
      40, weight);
  const auto fewest = std::make_shared<MethodChoices>();
  run(fewest);
  const auto layer = fewest->choices().begin()->first;
  for (const std::string way : {"in registers", "grouped convolution", "unfolded", "gram"}) {
    const auto chosen = std::make_shared<MethodChoices>();
    chosen->keep(layer, way, "test");
    const auto found = run(chosen);
    EXPECT_EQ(found.reason, way + " (test)");
    EXPECT_TRUE(tensor_near(found.squared_norms, expected.square().sum(1), 1e-10)) << way;
    EXPECT_TRUE(tensor_near(found.sum.flatten(), expected.sum(0), 1e-10)) << way;
  }
}

/// A token that is the same for all examples.
TEST(ExpandRule, GivesEachExampleItsOwnGradient) {
  const auto token = normal({1, 3}, 1).requires_grad_();
  const auto weights = normal({kExamples, 3}, 2);
  Tape tape;
  tape.follow(kExamples);
  const auto rows = tape.record(rules::expand(token, {kExamples, 3}), [&] {
    return token.expand({kExamples, 3});
  });
  const auto batch = tape.backward((rows * weights).tanh().sum(1), {token});
  const auto expected = dense_one_by_one(
      [&](int64_t i) { return (token[0] * weights[i]).tanh().sum(); }, kExamples, {token});
  EXPECT_TRUE(tensor_near(test::dense(batch), expected, 1e-10));
}

}  // namespace
}  // namespace gradist
