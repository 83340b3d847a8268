#include "models/network.h"

#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

#include <cmath>

namespace gradist {
namespace {

using test::refusal;
using ::testing::ElementsAre;

std::shared_ptr<Network> build(const ModelOptions& options, int64_t inputs, int64_t outputs,
                               uint64_t seed = 1) {
  auto generator = test::generator_of(seed);
  return make_network(options, inputs, outputs, generator);
}

int64_t parameter_count(const Network& network) {
  int64_t count = 0;
  for (const at::Tensor& parameter : network.parameters()) count += parameter.numel();
  return count;
}

TEST(Network, NamesItsParametersInOrder) {
  EXPECT_THAT(build({.hidden = {5, 7}}, 4, 3)->named_parameters().keys(),
              ElementsAre("layer1.weight", "layer1.bias", "layer2.weight", "layer2.bias",
                          "layer3.weight", "layer3.bias"));
  EXPECT_THAT(build({.hidden = {5}, .norm = "batch"}, 4, 3)->named_parameters().keys(),
              ElementsAre("layer1.weight", "layer1.bias", "norm1.weight", "norm1.bias",
                          "layer2.weight", "layer2.bias"));
  EXPECT_THAT(build({.model = "logistic"}, 4, 3)->named_parameters().keys(),
              ElementsAre("linear.weight", "linear.bias"));
}

TEST(Network, HasTheParametersOfItsSizes) {
  EXPECT_EQ(parameter_count(*build({.hidden = {1024, 1024}}, 784, 10)),
            785 * 1024 + 1025 * 1024 + 1025 * 10);
  EXPECT_EQ(parameter_count(*build({.hidden = {1024, 1024}, .norm = "batch"}, 784, 10)),
            785 * 1024 + 1025 * 1024 + 1025 * 10 + 2 * 2048);
  EXPECT_EQ(parameter_count(*build({.hidden = {}}, 784, 10)), 7850);
  EXPECT_EQ(parameter_count(*build({.model = "linear", .hidden = {99}}, 8, 1)), 9);
}

TEST(Network, DescribesItself) {
  EXPECT_EQ(build({}, 64, 10)->describe(), "mlp 64-128-10");
  EXPECT_EQ(build({.norm = "batch"}, 64, 10)->describe(), "mlp 64-128-10, batch norm");
  EXPECT_EQ(build({.model = "logistic"}, 64, 10)->describe(), "logistic 64-10");
  EXPECT_EQ(build({.model = "linear"}, 8, 1)->describe(), "linear 8-1");
}

TEST(Network, ParametersFillTheirBoundsUniformly) {
  auto network = build({.hidden = {400}}, 100, 10);
  for (const auto& parameter : network->named_parameters()) {
    const double bound = 1 / std::sqrt(parameter.key().starts_with("layer1") ? 100.0 : 400.0);
    EXPECT_TRUE(parameter.value().requires_grad());
    EXPECT_EQ(parameter.value().scalar_type(), at::kFloat);
    EXPECT_LE(test::largest(parameter.value()), bound) << parameter.key();
    if (parameter.value().numel() < 1000) continue;
    // n uniform numbers: the mean has deviation bound / sqrt(3 n), all below 0.99 bound has chance
    // 0.99^n < 5e-5.
    const double n = static_cast<double>(parameter.value().numel());
    EXPECT_GE(test::largest(parameter.value()), 0.99 * bound) << parameter.key();
    EXPECT_LE(std::abs(parameter.value().mean().item<double>()), 5 * bound / std::sqrt(3 * n))
        << parameter.key();
  }
}

TEST(Network, DependsOnItsGeneratorOnly) {
  at::Generator global = at::globalContext().defaultGenerator(at::kCPU);
  at::Tensor state = global.get_state();
  auto first = build({}, 6, 3, 1)->parameters();
  EXPECT_TRUE(at::equal(global.get_state(), state));
  EXPECT_TRUE(test::same_bits(first, build({}, 6, 3, 1)->parameters()));
  EXPECT_FALSE(test::same_bits(first, build({}, 6, 3, 2)->parameters()));
}

TEST(Network, MlpIsLayersWithReluBetween) {
  auto network = build({.hidden = {5, 4}}, 6, 3);
  at::Tensor inputs = at::linspace(-1, 1, 12).view({2, 1, 2, 3});
  auto p = network->parameters();
  at::Tensor expected = at::addmm(p[1], inputs.view({2, 6}), p[0].t()).clamp_min(0);
  expected = at::addmm(p[3], expected, p[2].t()).clamp_min(0);
  expected = at::addmm(p[5], expected, p[4].t());
  EXPECT_TRUE(test::tensor_near(network->forward(inputs), expected, 1e-6));
}

TEST(Network, LinearModelIsOneLayer) {
  auto network = build({.model = "linear"}, 6, 2);
  at::Tensor inputs = at::linspace(-1, 1, 12).view({2, 6});
  auto p = network->parameters();
  EXPECT_TRUE(test::tensor_near(network->forward(inputs), at::addmm(p[1], inputs, p[0].t()), 1e-6));
}

TEST(Network, RefusesUnknownModelsAndEmptyLayers) {
  EXPECT_EQ(refusal([] { build({.model = "resnet9"}, 4, 3); }),
            "model = resnet9, must be one of mlp, logistic, linear, lenet5, lenet5-average, cnn, "
            "vgg11, resnet8, resnet20, resnet32, resnet110, resnet18-cifar, resnet101-cifar, "
            "resnet18, resnet50, resnet101, densenet40, densenet169");
  EXPECT_EQ(refusal([] {
              build({.hidden = {8, 0}}, 4, 3);
            }),
            "hidden = 8,0, each width must be >= 1");
}

TEST(Network, SparseDataNeedALinearModel) {
  auto generator = test::generator_of(1);
  EXPECT_EQ(make_network({.model = "logistic"}, 30, 2, generator, /*sparse=*/true)->describe(),
            "logistic 30-2, sparse");
  EXPECT_EQ(refusal([&] { make_network({}, 30, 2, generator, /*sparse=*/true); }),
            "model = mlp, must be logistic or linear for sparse data");
}

TEST(Network, LossFollowsModelAndData) {
  Dataset classes{.inputs = at::ones({1, 1}), .classes = 10};
  Dataset numbers{.inputs = at::ones({1, 1}), .name = "numbers"};
  EXPECT_EQ(loss_for({.model = "mlp"}, classes), Loss::kCrossEntropy);
  EXPECT_EQ(loss_for({.model = "logistic"}, classes), Loss::kCrossEntropy);
  EXPECT_EQ(loss_for({.model = "linear"}, classes), Loss::kHalfSquaredError);
  EXPECT_EQ(loss_for({.model = "mlp"}, numbers), Loss::kHalfSquaredError);
  EXPECT_EQ(refusal([&] { loss_for({.model = "logistic"}, numbers); }),
            "model = logistic, must be mlp or linear for numbers, whose targets are numbers");
}

}  // namespace
}  // namespace gradist
