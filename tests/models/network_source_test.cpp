#include "models/network_source.h"

#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

namespace gradist {
namespace {

using test::normal;
using test::refusal;
using test::tensor_near;
using ::testing::AnyOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Dataset random_classes(int64_t size) {
  auto generator = test::generator_of(5);
  return {.inputs = normal({size, 1, 2, 3}, 4),
          .targets = at::randint(0, 3, {size}, generator, at::kLong),
          .classes = 3,
          .name = "random classes"};
}

Dataset random_images(int64_t size, int64_t channels, int64_t side) {
  Dataset data = random_classes(size);
  data.inputs = normal({size, channels, side, side}, 4);
  return data;
}

/// Up to three of 30 features in each example, none in one.
Dataset random_sparse(int64_t size) {
  Dataset data = random_classes(size);
  at::Tensor dense = at::zeros({size, 30}, at::kDouble);
  for (int64_t i = 1; i < size; ++i) {
    for (int64_t k = 0; k < 1 + i % 3; ++k)
      dense[i][(7 * i + 11 * k) % 30] = 0.5 + 0.1 * static_cast<double>(i + k);
  }
  data.inputs = dense.to_sparse_csr();
  return data;
}

Dataset random_numbers(int64_t size) {
  return {.inputs = normal({size, 6}, 4), .targets = normal({size}, 6), .name = "random numbers"};
}

std::shared_ptr<Network> build(const ModelOptions& options, const Dataset& data) {
  auto generator = test::generator_of(3);
  auto network =
      make_network(options, data.example_shape(), data.outputs(), generator, data.sparse());
  network->to(at::kDouble);
  return network;
}

/// A network with a parameter that no layer rule covers: y = s * (W x + b).
class ScaledNetwork final : public Network {
 public:
  explicit ScaledNetwork(std::shared_ptr<Network> inner)
      : inner_(register_module("inner", std::move(inner))),
        scale_(register_parameter("scale", at::full({1}, 1.5, at::kDouble))) {}

  at::Tensor forward(const at::Tensor& inputs, Tape* tape) override {
    return inner_->forward(inputs, tape) * scale_;
  }
  std::string describe() const override { return "scaled"; }

 private:
  std::shared_ptr<Network> inner_;
  at::Tensor scale_;
};

struct Case {
  std::string name;
  ModelOptions model;
  Dataset data;
  double label_smoothing = 0;
  bool scaled = false;

  NetworkSource source() const {
    auto network = build(model, data);
    if (scaled) network = std::make_shared<ScaledNetwork>(network);
    return {network, data, loss_for(model, data), label_smoothing};
  }
};

std::vector<Case> cases() {
  return {
      {"mlp", {.hidden = {5, 4}}, random_classes(7)},
      {"smoothed", {.hidden = {5}}, random_classes(7), 0.2},
      {"logistic", {.model = "logistic"}, random_classes(7)},
      {"one_hot", {.model = "linear"}, random_classes(7)},
      {"linear", {.model = "linear"}, random_numbers(7)},
      {"lenet", {.model = "lenet5", .width = 0.5}, random_images(7, 1, 12)},
      {"lenet_average",
       {.model = "lenet5-average", .width = 0.5, .activation = "elu"},
       random_images(7, 3, 32)},
      {"cnn", {.model = "cnn", .width = 0.05}, random_images(7, 1, 16)},
      {"vgg", {.model = "vgg11", .width = 1. / 32}, random_images(7, 3, 32), 0.1},
      {"resnet", {.model = "resnet8", .width = 0.25}, random_images(7, 3, 8)},
      {"resnet_elu",
       {.model = "resnet20", .width = 0.25, .activation = "elu"},
       random_images(7, 2, 9)},
      {"resnet_norm",
       {.model = "resnet20", .width = 0.25, .norm = "batch"},
       random_images(7, 3, 8)},
      {"lenet_norm", {.model = "lenet5", .norm = "batch"}, random_images(7, 1, 12)},
      {"resnet_imagenet",
       {.model = "resnet18", .width = 1. / 32, .norm = "batch"},
       random_images(7, 3, 33)},
      {"resnet_bottleneck", {.model = "resnet50", .width = 1. / 32}, random_images(7, 3, 32)},
      {"densenet", {.model = "densenet40", .width = 0.1, .norm = "batch"}, random_images(7, 3, 8)},
      {"densenet_plain", {.model = "densenet40", .width = 0.1}, random_images(7, 3, 8)},
      {"sparse_logistic", {.model = "logistic"}, random_sparse(7)},
      {"sparse_linear", {.model = "linear", .init = "he"}, random_sparse(7)},
      {"mlp_numbers", {.hidden = {5}}, random_numbers(7)},
      {"fallback", {.hidden = {5}}, random_classes(7), 0, true}};
}

class NetworkSources : public ::testing::TestWithParam<Case> {};

/// grad f_i by plain autograd, one example alone.
ParameterList one_gradient(const Case& given, NetworkSource& source, int64_t i) {
  const Dataset& data = source.data();
  at::Tensor outputs = source.network().forward(data.input_rows(at::tensor({i}, at::kLong)));
  at::Tensor loss = example_losses(loss_for(given.model, data), outputs,
                                   data.targets.narrow(0, i, 1), given.label_smoothing);
  return torch::autograd::grad({loss.sum()}, source.parameters());
}

const at::Tensor kIndices = at::tensor({6, 0, 3, 3}, at::kLong);

TEST_P(NetworkSources, GradientsAreThoseOfEachExampleAlone) {
  NetworkSource source = GetParam().source();
  GradientBatch batch = source.gradients(kIndices);
  ASSERT_EQ(batch.size(), kIndices.size(0));
  for (int64_t b = 0; b < batch.size(); ++b) {
    ParameterList expected = one_gradient(GetParam(), source, kIndices[b].item<int64_t>());
    for (size_t l = 0; l < expected.size(); ++l) {
      EXPECT_TRUE(tensor_near(batch.parameters[l].dense()[b], expected[l], 1e-10))
          << source.parameter_names()[l];
    }
  }
}

TEST_P(NetworkSources, LossesAndOutputsComeAlong) {
  NetworkSource source = GetParam().source();
  const Dataset& data = source.data();
  GradientBatch batch = source.gradients(kIndices);
  at::Tensor outputs = source.network().forward(data.input_rows(kIndices));
  EXPECT_TRUE(tensor_near(batch.outputs, outputs, 1e-14));
  EXPECT_TRUE(tensor_near(
      batch.losses,
      example_losses(loss_for(GetParam().model, data), outputs,
                     data.targets.index_select(0, kIndices), GetParam().label_smoothing),
      1e-14));
  EXPECT_FALSE(batch.losses.requires_grad());
  EXPECT_FALSE(batch.outputs.requires_grad());
}

TEST_P(NetworkSources, WeightedGradientIsTheWeightedSum) {
  NetworkSource source = GetParam().source();
  at::Tensor weights = at::tensor({0.5, -1.0, 2.0, 0.25}, at::kDouble);
  ParameterList actual = source.weighted_gradient(kIndices, weights);
  ParameterList expected = source.gradients(kIndices).weighted_sum(weights);
  for (size_t l = 0; l < expected.size(); ++l) {
    EXPECT_TRUE(tensor_near(actual[l], expected[l], 1e-10)) << source.parameter_names()[l];
  }
}

TEST_P(NetworkSources, NeverTouchParametersOrTheirGrad) {
  NetworkSource source = GetParam().source();
  ParameterList before = copy_parameters(source);
  source.parameters()[0].mutable_grad() = at::full_like(before[0], 7);
  source.gradients(kIndices);
  source.weighted_gradient(kIndices, at::ones({4}, at::kDouble));
  source.evaluate(source.data());
  EXPECT_TRUE(test::same_bits(copy_parameters(source), before));
  EXPECT_TRUE(test::same_bits(source.parameters()[0].grad(), at::full_like(before[0], 7)));
  for (size_t l = 1; l < before.size(); ++l) EXPECT_FALSE(source.parameters()[l].grad().defined());
}

TEST_P(NetworkSources, MeasureInsideANoGradScopeToo) {
  NetworkSource source = GetParam().source();
  ParameterList expected = source.gradients(kIndices).weighted_sum(at::ones({4}, at::kDouble));
  c10::NoGradGuard without_gradients;
  EXPECT_TRUE(test::same_bits(source.gradients(kIndices).weighted_sum(at::ones({4}, at::kDouble)),
                              expected));
  EXPECT_TRUE(tensor_near(source.weighted_gradient(kIndices, at::ones({4}, at::kDouble))[0],
                          expected[0], 1e-10));
}

INSTANTIATE_TEST_SUITE_P(Cases, NetworkSources, ::testing::ValuesIn(cases()),
                         [](const auto& given) { return given.param.name; });

std::vector<std::string> methods(NetworkSource source) {
  std::vector<std::string> names;
  for (const auto& gradients : source.gradients(kIndices).parameters)
    names.push_back(gradients.method());
  return names;
}

TEST(NetworkSource, ParametersHaveTheirRulesAndTheRestTheFallback) {
  EXPECT_THAT(methods(cases().front().source()),
              ElementsAre("linear", "bias", "linear", "bias", "linear", "bias"));
  NetworkSource fallback = cases().back().source();
  EXPECT_THAT(fallback.parameter_names(),
              ElementsAre("scale", "inner.layer1.weight", "inner.layer1.bias",
                          "inner.layer2.weight", "inner.layer2.bias"));
  EXPECT_THAT(methods(fallback), ElementsAre("one-by-one", "linear", "bias", "linear", "bias"));
}

TEST(NetworkSource, EveryParameterOfANetworkForImagesHasARule) {
  for (const auto& name : model_names()) {
    const bool images = name != "mlp" && name != "logistic" && name != "linear";
    const ModelOptions model{
        .model = name, .width = images ? 0.125 : 1.0, .norm = images ? "batch" : "none"};
    EXPECT_THAT(methods(Case{name, model, random_images(7, 3, 32)}.source()),
                Each(AnyOf("linear", "bias", "conv", "batch_norm")))
        << name;
  }
}

TEST(NetworkSource, RefusesGradientsOfExamplesWhereBatchNormGoesByTheBatch) {
  const Dataset data = random_images(7, 3, 8);
  const auto network = build({.model = "resnet8", .width = 0.25, .norm = "batch"}, data);
  NetworkSource source(network, data, Loss::kCrossEntropy);
  const TrainMode train_mode(*network);
  EXPECT_ANY_THROW(source.gradients(kIndices));
  EXPECT_NO_THROW(source.weighted_gradient(kIndices, at::ones({4}, at::kDouble)));
}

TEST(NetworkSource, LeavesOutFrozenParameters) {
  auto network = build({.hidden = {5}}, random_classes(7));
  network->named_parameters()["layer1.weight"].set_requires_grad(false);
  NetworkSource source(network, random_classes(7), Loss::kCrossEntropy);
  EXPECT_THAT(source.parameter_names(), ElementsAre("layer1.bias", "layer2.weight", "layer2.bias"));
  EXPECT_EQ(source.gradients(kIndices).parameters.size(), 3);
}

TEST(NetworkSource, EvaluatesOverAllChunks) {
  Dataset data = random_classes(2500);
  NetworkSource source(build({}, data), data, Loss::kCrossEntropy, 0.1);
  at::Tensor outputs = source.network().forward(data.inputs);
  Evaluation evaluation = source.evaluate(data);
  EXPECT_TRUE(test::near(
      evaluation.loss,
      example_losses(Loss::kCrossEntropy, outputs, data.targets, 0.1).mean().item<double>(),
      1e-12));
  EXPECT_EQ(evaluation.accuracy, static_cast<double>(count_correct(outputs, data.targets)) / 2500);
}

TEST(NetworkSource, SparseExamplesSayWhatDenseOnesWould) {
  const Dataset sparse = random_sparse(7);
  Dataset dense = sparse;
  dense.inputs = sparse.inputs.to_dense();
  const auto sparse_network = build({.model = "logistic"}, sparse);
  const auto dense_network = build({.model = "logistic"}, dense);
  {
    const c10::NoGradGuard no_grad;
    dense_network->parameters()[0].copy_(sparse_network->parameters()[0].t());
    dense_network->parameters()[1].copy_(sparse_network->parameters()[1]);
  }
  NetworkSource ours(sparse_network, sparse, Loss::kCrossEntropy);
  NetworkSource theirs(dense_network, dense, Loss::kCrossEntropy);
  EXPECT_TRUE(test::near(ours.evaluate(sparse).loss, theirs.evaluate(dense).loss, 1e-12));
  const GradientBatch found = ours.gradients(kIndices), expected = theirs.gradients(kIndices);
  EXPECT_TRUE(tensor_near(found.parameters[0].dense(),
                          expected.parameters[0].dense().transpose(1, 2), 1e-12));
  EXPECT_TRUE(tensor_near(found.squared_norms(), expected.squared_norms(), 1e-12));
  EXPECT_EQ(found.parameters[0].method(), "embedding");
}

TEST(NetworkSource, HasNoAccuracyForRegression) {
  Dataset data = random_numbers(5);
  NetworkSource source(build({.model = "linear"}, data), data, Loss::kHalfSquaredError);
  EXPECT_TRUE(std::isnan(source.evaluate(data).accuracy));
}

TEST(NetworkSource, RefusesLossesThatDoNotFit) {
  auto refused = [](const Dataset& data, Loss loss, double smoothing) {
    return refusal([&] { NetworkSource(build({}, data), data, loss, smoothing); });
  };
  EXPECT_EQ(refused(random_classes(4), Loss::kCrossEntropy, 1.5),
            "label-smoothing = 1.5, must lie in [0, 1]");
  EXPECT_THAT(refused(random_classes(4), Loss::kCrossEntropy, std::nan("")),
              HasSubstr("label-smoothing = nan"));
  EXPECT_EQ(refused(random_numbers(4), Loss::kHalfSquaredError, 0.1),
            "label-smoothing = 0.1, must be 0 for half squared error");
  EXPECT_EQ(refused(random_numbers(4), Loss::kCrossEntropy, 0),
            "random numbers: targets are numbers, cross entropy must have classes");
}

}  // namespace
}  // namespace gradist
