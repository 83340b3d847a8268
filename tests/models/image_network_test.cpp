#include "models/image_network.h"
#include "models/initialisation.h"

#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

#include <cmath>

namespace gradist {
namespace {

using test::is_one_line;
using test::refusal;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::shared_ptr<Network> build(const ModelOptions& options, std::vector<int64_t> example,
                               int64_t outputs = 10) {
  auto generator = test::generator_of(1);
  return make_network(options, example, outputs, generator);
}

int64_t parameter_count(const Network& network) {
  int64_t count = 0;
  for (const at::Tensor& parameter : network.parameters()) count += parameter.numel();
  return count;
}

const std::vector<int64_t> kCifar = {3, 32, 32}, kMnist = {1, 28, 28};

struct Published {
  std::string model;
  std::vector<int64_t> example;
  int64_t parameters;
  /// Multiply-adds of one example, by hand: weights times positions of each layer.
  int64_t multiplications;
};

class PublishedNetworks : public ::testing::TestWithParam<Published> {};

TEST_P(PublishedNetworks, HaveTheirParameters) {
  const auto network = build({.model = GetParam().model}, GetParam().example);
  EXPECT_EQ(parameter_count(*network), GetParam().parameters);
  EXPECT_EQ(network->multiplications(), GetParam().multiplications);
}

TEST_P(PublishedNetworks, SayAnOutputAClassOfEachExample) {
  const auto network = build({.model = GetParam().model, .init = "he"}, GetParam().example, 7);
  std::vector<int64_t> sizes = GetParam().example;
  sizes.insert(sizes.begin(), 3);
  const at::Tensor inputs = test::normal(sizes, 2, at::kFloat);
  const at::Tensor outputs = network->forward(inputs);
  EXPECT_EQ(outputs.sizes(), (std::vector<int64_t>{3, 7}));
  // No example sees another.
  EXPECT_TRUE(
      test::tensor_near(outputs.narrow(0, 1, 1), network->forward(inputs.narrow(0, 1, 1)), 1e-4));
}

/// 3 x 3 convolutions of a stage of a residual network with n blocks, and its 1 x 1 shortcut.
int64_t stage(int64_t inputs, int64_t planes, int64_t positions, int64_t blocks) {
  const int64_t shortcut = inputs == planes ? 0 : inputs * planes;
  return positions * (9 * inputs * planes + shortcut + (2 * blocks - 1) * 9 * planes * planes);
}

int64_t resnet(int64_t blocks) {
  return 1024 * 27 * 16 + stage(16, 16, 1024, blocks) + stage(16, 32, 256, blocks) +
         stage(32, 64, 64, blocks) + 640;
}

INSTANTIATE_TEST_SUITE_P(
    Published, PublishedNetworks,
    ::testing::Values(Published{"lenet5", kCifar, 62'006,
                                75 * 6 * 28 * 28 + 150 * 16 * 100 + 400 * 120 + 120 * 84 + 840},
                      Published{"lenet5-average", kMnist, 61'706,
                                25 * 6 * 28 * 28 + 150 * 16 * 100 + 400 * 120 + 120 * 84 + 840},
                      Published{"cnn", kMnist, 2'171'786,
                                25 * 32 * 24 * 24 + 25 * 32 * 64 * 64 + 1024 * 2048 + 20480},
                      Published{"vgg11", kCifar, 9'225'610,
                                9 * (3 * 64 * 1024 + 64 * 128 * 256 + (128 * 256 + 256 * 256) * 64 +
                                     (256 * 512 + 512 * 512) * 16 + 2 * 512 * 512 * 4) +
                                    5120},
                      Published{"resnet8", kCifar, 77'706, resnet(1)},
                      Published{"resnet20", kCifar, 271'690, resnet(3)},
                      Published{"resnet32", kCifar, 465'674, resnet(5)}),
    [](const auto& given) {
      std::string name = given.param.model;
      std::erase(name, '-');
      return name;
    });

TEST(ImageNetwork, NamesItsParameters) {
  EXPECT_THAT(build({.model = "cnn", .width = 0.1}, kMnist)->named_parameters().keys(),
              ElementsAre("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias",
                          "linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"));
  const auto names = build({.model = "resnet8"}, kCifar)->named_parameters().keys();
  EXPECT_THAT(names, ::testing::IsSupersetOf({"conv1.weight", "block1.conv2.bias",
                                              "block2.shortcut_conv1.weight", "linear1.bias"}));
}

TEST(ImageNetwork, DescribesItself) {
  EXPECT_EQ(build({.model = "resnet8"}, kCifar)->describe(), "resnet8 3x32x32-10");
  EXPECT_EQ(build({.model = "lenet5", .width = 0.5, .activation = "elu"}, kMnist, 2)->describe(),
            "lenet5 1x28x28-2, width 0.5, elu");
}

TEST(ImageNetwork, WidthScalesEveryWidth) {
  const auto network = build({.model = "lenet5", .width = 0.5}, kCifar);
  EXPECT_EQ(parameter_count(*network), (75 + 1) * 3 + (75 + 1) * 8 + 201 * 60 + 61 * 42 + 43 * 10);
  EXPECT_EQ(build({.model = "resnet8", .width = 1e-9}, kCifar)->parameters()[0].size(0), 1);
}

TEST(ImageNetwork, ActivationIsTheOneAskedFor) {
  const at::Tensor inputs = test::normal({2, 1, 12, 12}, 3, at::kFloat);
  auto relu = build({.model = "lenet5"}, {1, 12, 12});
  auto elu = build({.model = "lenet5", .activation = "elu"}, {1, 12, 12});
  EXPECT_TRUE(test::same_bits(relu->parameters(), elu->parameters()));
  EXPECT_FALSE(at::allclose(relu->forward(inputs), elu->forward(inputs)));
  // A linear layer alone has none of it.
  EXPECT_TRUE(test::same_bits(activation("elu")(at::tensor({-1.0, 2.0}, at::kDouble)),
                              at::tensor({std::expm1(-1.0), 2.0}, at::kDouble)));
}

TEST(ImageNetwork, TorchDrawsEveryParameterWithinItsBound) {
  for (const auto& parameter : build({.model = "resnet20"}, kCifar)->named_parameters()) {
    const at::Tensor& values = parameter.value();
    if (values.dim() < 2 || values.numel() < 1000) continue;
    const double bound = 1 / std::sqrt(static_cast<double>(values.numel() / values.size(0)));
    // All n uniform numbers below 0.99 bound: chance 0.99^n < 5e-5.
    EXPECT_LE(test::largest(values), bound) << parameter.key();
    EXPECT_GE(test::largest(values), 0.99 * bound) << parameter.key();
  }
}

TEST(ImageNetwork, HeDrawsNormalWeightsAndNoBiases) {
  for (const auto& parameter :
       build({.model = "resnet20", .init = "he"}, kCifar)->named_parameters()) {
    const at::Tensor values = parameter.value().detach().to(at::kDouble);
    if (values.dim() == 1) {
      EXPECT_EQ(test::largest(values), 0) << parameter.key();
      continue;
    }
    const auto n = static_cast<double>(values.numel());
    const double variance = 2 / (n / static_cast<double>(values.size(0)));
    // Mean squares of n normal numbers have relative deviation sqrt(2 / n); five of them.
    EXPECT_NEAR(values.square().mean().item<double>() / variance, 1, 5 * std::sqrt(2 / n))
        << parameter.key();
    EXPECT_LE(std::abs(values.mean().item<double>()), 5 * std::sqrt(variance / n))
        << parameter.key();
  }
}

TEST(ImageNetwork, HeIsForEveryNetwork) {
  EXPECT_EQ(test::largest(build({.init = "he"}, {6}, 3)->parameters()[1]), 0);
}

/// All buffers, side by side.
at::Tensor statistics(const Network& network) {
  std::vector<at::Tensor> all;
  for (const at::Tensor& buffer : network.buffers()) all.push_back(buffer.flatten());
  return at::cat(all);
}

TEST(ImageNetwork, BatchNormTakesTheBiasesPlaceInConvolutions) {
  const auto network = build({.model = "lenet5", .norm = "batch"}, kCifar);
  EXPECT_THAT(network->named_parameters().keys(),
              ElementsAre("conv1.weight", "norm1.weight", "norm1.bias", "conv2.weight",
                          "norm2.weight", "norm2.bias", "linear1.weight", "linear1.bias",
                          "norm3.weight", "norm3.bias", "linear2.weight", "linear2.bias",
                          "norm4.weight", "norm4.bias", "linear3.weight", "linear3.bias"));
  EXPECT_EQ(network->describe(), "lenet5 3x32x32-10, batch norm");
}

TEST(ImageNetwork, BatchNormGoesByTheBatchInTrainModeOnly) {
  const auto network = build({.model = "lenet5", .norm = "batch"}, kCifar);
  const at::Tensor inputs = test::normal({6, 3, 32, 32}, 2, at::kFloat);
  const at::Tensor before = statistics(*network).clone();
  const at::Tensor measured = network->forward(inputs);
  EXPECT_TRUE(test::same_bits(statistics(*network), before));
  {
    const TrainMode train_mode(*network);
    EXPECT_FALSE(at::allclose(network->forward(inputs), measured));
  }
  EXPECT_FALSE(test::same_bits(statistics(*network), before));
  EXPECT_FALSE(network->is_training());
  // One example alone says the same as among others.
  EXPECT_TRUE(test::tensor_near(network->forward(inputs.narrow(0, 1, 1)),
                                network->forward(inputs).narrow(0, 1, 1), 1e-4));
}

TEST(ImageNetwork, NoInitialisationTouchesBatchNorm) {
  for (const auto& init : initialisation_names()) {
    for (const auto& parameter :
         build({.model = "resnet8", .norm = "batch", .init = init}, kCifar)->named_parameters()) {
      if (parameter.key().find("norm") == std::string::npos) continue;
      const double expected = parameter.key().ends_with("weight") ? 1 : 0;
      EXPECT_TRUE(at::all(parameter.value() == expected).item<bool>()) << init << parameter.key();
    }
  }
}

TEST(ImageNetwork, RefusesWhatItCannotTake) {
  EXPECT_THAT(refusal([] { build({.model = "resnet8"}, {64}); }),
              AllOf(HasSubstr("model = resnet8, must be mlp, logistic or linear"),
                    HasSubstr("[64]"), is_one_line()));
  EXPECT_EQ(refusal([] {
              build({.model = "vgg11"}, {3, 16, 16});
            }),
            "model = vgg11, needs larger images than 16 x 16: a window of 2 x 2 must fit planes of "
            "1 x 1");
  EXPECT_THAT(refusal([] {
                build({.model = "lenet5"}, {1, 8, 8});
              }),
              HasSubstr("a window of 5 x 5 must fit planes of 4 x 4"));
}

TEST(ModelOptions, RefusesWidthsActivationsAndInitialisationsThatCannotBe) {
  EXPECT_EQ(refusal([] { validate({.model = "resnet8", .width = 0}); }), "width = 0, must be > 0");
  EXPECT_EQ(refusal([] { validate({.width = 2}); }),
            "width = 2, must be 1 for mlp, whose widths are those of hidden");
  EXPECT_EQ(refusal([] { validate({.model = "linear", .width = 2}); }),
            "width = 2, must be 1 for linear, which has no hidden layers");
  EXPECT_EQ(refusal([] { validate({.model = "logistic", .activation = "elu"}); }),
            "activation = elu, must be relu for logistic, which has no hidden layers");
  EXPECT_EQ(refusal([] { validate({.activation = "rely"}); }),
            "activation = rely, must be one of relu, elu");
  EXPECT_EQ(refusal([] { validate({.model = "linear", .norm = "batch"}); }),
            "norm = batch, must be none for linear, which has no hidden layers");
  EXPECT_EQ(refusal([] { validate({.model = "resnet8", .norm = "layer"}); }),
            "norm = layer, must be one of none, batch");
  EXPECT_EQ(refusal([] { validate({.init = "his"}); }), "init = his, must be one of torch, he");
}

}  // namespace
}  // namespace gradist
