#include "models/metainit.h"

#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <map>
#include <numeric>

namespace gradist {
namespace {

using test::generator_of;
using test::normal;
using test::refusal;
using test::tensor_near;

constexpr double kEpsilon = 1e-5;

Dataset images(std::vector<int64_t> example, at::ScalarType type = at::kDouble) {
  auto generator = generator_of(5);
  std::vector<int64_t> sizes = {6};
  sizes.insert(sizes.end(), example.begin(), example.end());
  return {.inputs = normal(sizes, 4).to(type),
          .targets = at::randint(3, {6}, generator, at::kLong),
          .classes = 3,
          .name = "images"};
}

NetworkSource source_of(const ModelOptions& model, const Dataset& data) {
  auto generator = generator_of(3);
  auto network = make_network(model, data.example_shape(), data.outputs(), generator);
  network->to(data.inputs.scalar_type());
  const Loss loss = loss_for(model, data);
  return {network, data, loss, loss == Loss::kCrossEntropy ? 0.1 : 0.0};
}

at::Tensor mean_loss(const NetworkSource& source, const at::Tensor& inputs,
                     const at::Tensor& targets) {
  return source.losses(source.network().forward(inputs), targets).mean();
}

at::Tensor mean_loss(const NetworkSource& source) {
  return mean_loss(source, source.data().inputs, source.data().targets);
}

/// Q by its definition: every row of the Hessian by itself, then a loop over the coordinates.
double slow_quotient(const at::Tensor& loss, const ParameterList& parameters, double epsilon) {
  const auto rows_of = [&](const at::Tensor& number, bool create_graph) {
    ParameterList found =
        torch::autograd::grad({number}, parameters, {}, /*retain_graph=*/true, create_graph,
                              /*allow_unused=*/true);
    std::vector<at::Tensor> flat;
    for (size_t l = 0; l < found.size(); ++l) {
      flat.push_back(found[l].defined() ? found[l].flatten()
                                        : at::zeros({parameters[l].numel()}, at::kDouble));
    }
    return at::cat(flat);
  };
  const at::Tensor graph = rows_of(loss, /*create_graph=*/true);
  const at::Tensor g = graph.detach();
  double sum = 0;
  for (int64_t j = 0; j < g.numel(); ++j) {
    const double gj = g[j].item<double>();
    const double change = rows_of(graph[j], /*create_graph=*/false).dot(g).item<double>();
    sum += std::abs((gj - change) / (gj + (gj >= 0 ? epsilon : -epsilon)) - 1);
  }
  return sum / static_cast<double>(g.numel());
}

struct Case {
  std::string name;
  ModelOptions model;
  std::vector<int64_t> example;
};

std::vector<Case> cases() {
  return {{"mlp", {.hidden = {5, 4}}, {6}},
          {"mlp_elu", {.hidden = {5}, .activation = "elu"}, {6}},
          {"squares", {.model = "linear"}, {6}},
          {"lenet", {.model = "lenet5-average", .width = 0.05}, {1, 12, 12}},
          {"resnet", {.model = "resnet8", .width = 1. / 16, .activation = "elu"}, {2, 8, 8}}};
}

class Quotient : public ::testing::TestWithParam<Case> {};

TEST_P(Quotient, IsThatOfTheExplicitHessian) {
  const NetworkSource source = source_of(GetParam().model, images(GetParam().example));
  const double found =
      gradient_quotient(mean_loss(source), source.parameters(), kEpsilon).item<double>();
  EXPECT_TRUE(
      test::near(found, slow_quotient(mean_loss(source), source.parameters(), kEpsilon), 1e-10));
}

INSTANTIATE_TEST_SUITE_P(Networks, Quotient, ::testing::ValuesIn(cases()),
                         [](const auto& tested) { return tested.param.name; });

// L = a . theta has no Hessian: g / (g + e) - 1 = -e / (g + e) in every coordinate.
TEST(GradientQuotient, IsNearZeroWhereTheLossIsAPlane) {
  const at::Tensor theta = at::ones({3}, at::kDouble).requires_grad_();
  const at::Tensor a = at::tensor({2., -4., 0.}, at::kDouble);
  const at::Tensor loss = (a * theta).sum() + 0 * theta.square().sum();
  const double expected = (0.5 / 2.5 + 0.5 / 4.5 + 1) / 3;
  EXPECT_NEAR(gradient_quotient(loss, {theta}, 0.5).item<double>(), expected, 1e-15);
}

// L = c ||theta||^2 / 2: g - H g = (1 - c) g.
TEST(GradientQuotient, GrowsWithTheCurvature) {
  const at::Tensor theta = at::tensor({1., -2., 3.}, at::kDouble).requires_grad_();
  for (const double c : {0.5, 2.0, 10.0}) {
    const at::Tensor loss = c * theta.square().sum() / 2;
    EXPECT_NEAR(gradient_quotient(loss, {theta}, 0).item<double>(), c, 1e-12 * c);
  }
}

/// What the steps are by their formula, slopes of norms by central differences of Q.
void slow_metainit(const NetworkSource& source, const MetaInitOptions& options,
                   at::Generator generator) {
  std::map<size_t, double> velocity;
  const auto& parameters = source.parameters();
  std::vector<int64_t> sizes = source.data().example_shape().vec();
  sizes.insert(sizes.begin(), options.batch_size);
  for (int64_t step = 0; step < options.steps; ++step) {
    const at::Tensor inputs = at::randn(sizes, generator, at::kFloat).to(at::kDouble);
    const at::Tensor targets =
        at::randint(source.data().classes, {options.batch_size}, generator, at::kLong);
    const auto quotient_at = [&](size_t l, double factor) {
      const at::Tensor kept = parameters[l].detach().clone();
      {
        const c10::NoGradGuard no_grad;
        parameters[l].mul_(factor);
      }
      const double q =
          gradient_quotient(mean_loss(source, inputs, targets), parameters, options.epsilon)
              .item<double>();
      const c10::NoGradGuard no_grad;
      parameters[l].copy_(kept);
      return q;
    };
    std::map<size_t, double> factors;
    for (size_t l = 0; l < parameters.size(); ++l) {
      if (parameters[l].dim() < 2) continue;
      const double slope = quotient_at(l, 1 + 1e-6) - quotient_at(l, 1 - 1e-6);
      ASSERT_GT(std::abs(slope), 1e-9) << "the sign of no slope is certain";
      velocity[l] = options.momentum * velocity[l] - options.lr * (slope > 0 ? 1 : -1);
      const double norm = parameters[l].norm().item<double>();
      factors[l] = (norm + velocity[l]) / norm;
    }
    const c10::NoGradGuard no_grad;
    for (const auto& [l, factor] : factors) parameters[l].mul_(factor);
  }
}

TEST(MetaInit, TakesTheStepsOfItsFormula) {
  const ModelOptions model = {.hidden = {5, 4}, .activation = "elu"};
  const MetaInitOptions options = {.steps = 6, .batch_size = 4, .lr = 0.05};
  const NetworkSource ours = source_of(model, images({6})), slow = source_of(model, images({6}));
  auto generator = generator_of(11);
  metainit(ours, options, generator);
  slow_metainit(slow, options, generator_of(11));
  for (size_t l = 0; l < ours.parameters().size(); ++l) {
    EXPECT_TRUE(tensor_near(ours.parameters()[l], slow.parameters()[l], 1e-12));
  }
}

TEST(MetaInit, TellsTheQuotientBeforeEachStepAndAtTheEnd) {
  const NetworkSource source = source_of({.hidden = {5}}, images({6}));
  auto generator = generator_of(2);
  std::vector<int64_t> steps;
  metainit(source, {.steps = 3, .batch_size = 4}, generator, [&](int64_t step, double quotient) {
    steps.push_back(step);
    EXPECT_GT(quotient, 0);
  });
  EXPECT_EQ(steps, (std::vector<int64_t>{0, 1, 2, 3}));
}

TEST(MetaInit, ScalesWeightsAndNothingElse) {
  const ModelOptions model = {.model = "resnet8", .width = 0.25};
  const NetworkSource before = source_of(model, images({3, 8, 8})),
                      after = source_of(model, images({3, 8, 8}));
  auto generator = generator_of(2);
  metainit(after, {.steps = 4, .batch_size = 4}, generator);
  for (size_t l = 0; l < after.parameters().size(); ++l) {
    const at::Tensor& x = before.parameters()[l];
    const at::Tensor& y = after.parameters()[l];
    if (x.dim() < 2) {
      EXPECT_TRUE(test::same_bits(x, y));
    } else {
      EXPECT_TRUE(tensor_near(y / y.norm(), x / x.norm(), 1e-12));
      EXPECT_NE(x.norm().item<double>(), y.norm().item<double>());
    }
  }
}

TEST(MetaInit, KeepsNormsPositive) {
  const NetworkSource before = source_of({.hidden = {5, 4}}, images({6})),
                      after = source_of({.hidden = {5, 4}}, images({6}));
  auto generator = generator_of(2);
  metainit(after, {.steps = 1, .batch_size = 4, .lr = 100}, generator);
  int64_t halved = 0;
  for (size_t l = 0; l < after.parameters().size(); ++l) {
    if (after.parameters()[l].dim() < 2) continue;
    const double norm = before.parameters()[l].norm().item<double>();
    const double now = after.parameters()[l].norm().item<double>();
    const bool grew = std::abs(now - (norm + 100)) <= 1e-10 * now;
    halved += grew ? 0 : 1;
    EXPECT_TRUE(grew || test::near(now, norm / 2, 1e-12)) << norm << " became " << now;
  }
  EXPECT_GT(halved, 0) << "no step went below zero";
}

struct Descent {
  ModelOptions model;
  std::vector<int64_t> example;
  MetaInitOptions options;
};

// From weights that are too large for their networks. A quotient is a mean with heavy tails over
// noise, hence means over five steps; in a network of 5,000 parameters the coordinates with
// |g_j| near epsilon decide the signs of slopes by themselves unless epsilon is larger.
TEST(MetaInit, LowersTheQuotient) {
  for (const Descent& each :
       {Descent{{.hidden = {128}, .init = "he"}, {64}, {.steps = 60, .batch_size = 64}},
        Descent{{.model = "resnet8", .width = 0.25, .init = "he"},
                {3, 8, 8},
                {.steps = 40, .batch_size = 16, .lr = 0.03, .epsilon = 1e-2}}}) {
    const NetworkSource source = source_of(each.model, images(each.example, at::kFloat));
    auto generator = generator_of(2);
    std::vector<double> quotients;
    metainit(source, each.options, generator,
             [&](int64_t, double quotient) { quotients.push_back(quotient); });
    const double first = std::accumulate(quotients.begin(), quotients.begin() + 5, 0.0) / 5;
    const double last = std::accumulate(quotients.end() - 5, quotients.end(), 0.0) / 5;
    EXPECT_LT(last, 0.5 * first) << each.model.model;
  }
}

TEST(MetaInit, DependsOnItsGeneratorOnly) {
  const auto scaled = [](uint64_t seed) {
    const NetworkSource source = source_of({.hidden = {5}}, images({6}, at::kFloat));
    auto generator = generator_of(seed);
    metainit(source, {.steps = 5, .batch_size = 4}, generator);
    return source.parameters();
  };
  at::Generator global = at::globalContext().defaultGenerator(at::kCPU);
  const at::Tensor state = global.get_state();
  const auto first = scaled(1);
  EXPECT_TRUE(at::equal(global.get_state(), state));
  EXPECT_TRUE(test::same_bits(first, scaled(1)));
  EXPECT_FALSE(test::same_bits(first, scaled(2)));
}

TEST(MetaInit, WorksOnNumbers) {
  const Dataset numbers = {
      .inputs = normal({6, 4}, 4), .targets = normal({6}, 5), .name = "numbers"};
  auto generator = generator_of(3);
  const auto network = make_network({.hidden = {5}}, {4}, 1, generator);
  network->to(at::kDouble);
  const NetworkSource source(network, numbers, Loss::kHalfSquaredError);
  const ParameterList before = {source.parameters()[0].detach().clone()};
  metainit(source, {.steps = 2, .batch_size = 4}, generator);
  EXPECT_FALSE(test::same_bits(before.front(), source.parameters()[0].detach()));
}

TEST(MetaInit, RefusesSparseData) {
  Dataset sparse = images({6});
  sparse.inputs = sparse.inputs.to_sparse_csr();
  auto generator = generator_of(3);
  const auto network = make_network({.model = "logistic"}, {6}, 3, generator, /*sparse=*/true);
  network->to(at::kDouble);
  const NetworkSource source(network, sparse, Loss::kCrossEntropy);
  EXPECT_EQ(refusal([&] { metainit(source, {}, generator); }),
            "init = metainit, must be torch or he for sparse data");
}

}  // namespace
}  // namespace gradist
