// What a snapshot is in a deep net: [Defazio19] section 2. Every variance against an enumeration of
// all draws, with all gradients formed.
#include "estimators/measurement.h"
#include "estimators/svrg.h"
#include "models/network_source.h"
#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using test::near;
using test::normal;
using test::same_bits;
using test::tensor_near;

constexpr int64_t kExamples = 5, kBatchSize = 2;
constexpr double kTolerance = 1e-10;
constexpr uint64_t kFirstKey = 1, kOtherKey = 2;

struct Given {
  std::string norm = "none";
  BatchNormPolicy policy = BatchNormPolicy::kEval;
};

/// A tiny LeNet in float64 whose running statistics are those of a few training steps.
NetworkSource source_of(const Given& given) {
  auto generator = test::generator_of(3);
  Dataset data{.inputs = normal({kExamples, 1, 12, 12}, 4),
               .targets = at::randint(0, 3, {kExamples}, generator, at::kLong),
               .classes = 3,
               .name = "random images"};
  const auto network = make_network({.model = "lenet5", .width = 0.1, .norm = given.norm},
                                    data.example_shape(), 3, generator);
  network->to(at::kDouble);
  NetworkSource source(network, data, Loss::kCrossEntropy, 0,
                       {.augmentation = Augmentation::kCropFlip, .transform_seed = 5},
                       given.policy);
  source.set_key(kFirstKey);
  return source;
}

/// Parameters and running statistics as training would leave them.
void train_a_little(NetworkSource& source, double step) {
  const TrainMode train_mode(source.network());
  for (int64_t t = 0; t < 3; ++t) {
    const auto gradient = source.weighted_gradient(at::tensor({t, t + 1}, at::kLong),
                                                   at::full({2}, 0.5, at::kDouble));
    const at::NoGradGuard no_grad;
    for (size_t l = 0; l < gradient.size(); ++l) source.parameters()[l].sub_(gradient[l], step);
  }
}

at::Tensor all_gradients(NetworkSource& source) {
  return test::dense(source.gradients(at::arange(kExamples, at::kLong)));
}

at::Tensor gradients_at(NetworkSource& source, const Snapshot& snapshot) {
  const AtSnapshot there(source, snapshot);
  return all_gradients(source);
}

/// tr Cov over all draws of what `value` makes of one.
template <class Value>
double enumerated_trace(const SamplingDesign& design, const Value& value) {
  std::vector<at::Tensor> rows;
  std::vector<double> probabilities;
  for (const auto& draw : test::enumerate_draws(design)) {
    rows.push_back(value(draw.batch));
    probabilities.push_back(draw.probability);
  }
  return test::moments_of(at::stack(rows), at::tensor(probabilities, at::kDouble))
      .variance.sum()
      .item<double>();
}

struct Measured {
  Svrg svrg{kExamples, kBatchSize, /*replacement=*/true};
  at::Generator generator = test::generator_of(9);

  Measurement measure(NetworkSource& source, const MeasureOptions& options = {}) {
    return gradist::measure(source, {&svrg}, options, generator);
  }
};

void expect_moments_of_enumeration(NetworkSource& source, Measured& measured) {
  const auto& svrg = measured.svrg;
  const auto found = measured.measure(source).moments.front();
  const auto of_svrg = enumerated_trace(svrg.design(), [&](const WeightedBatch& batch) {
    return test::flatten(svrg.estimate(source, batch));
  });
  const auto of_sgd = enumerated_trace(svrg.design(), [&](const WeightedBatch& batch) {
    return test::flatten(source.weighted_gradient(batch.indices, batch.weights));
  });
  EXPECT_TRUE(near(found.trace_covariance, of_svrg, kTolerance, of_sgd));
  EXPECT_TRUE(near(found.variance_ratio, of_svrg / of_sgd, kTolerance, 1));
  EXPECT_TRUE(std::isnan(found.variance_ratio_low) && std::isnan(found.variance_ratio_high));
  // The estimate is unbiased: g~ is the mean of the g~_i that are subtracted.
  at::Tensor mean = at::zeros({source.parameter_count()}, at::kDouble);
  for (const auto& draw : test::enumerate_draws(svrg.design())) {
    mean += draw.probability * test::flatten(svrg.estimate(source, draw.batch));
  }
  EXPECT_TRUE(tensor_near(mean, all_gradients(source).mean(0), 1e-12, 1));
}

TEST(TransformLocking, LeavesNoVarianceAtTheSnapshot) {
  NetworkSource source = source_of({});
  Measured measured;
  measured.svrg.refresh(source, measured.generator);
  const auto moments = measured.measure(source).moments.front();
  EXPECT_EQ(moments.trace_covariance, 0);
  EXPECT_EQ(moments.variance_ratio, 0);
}

TEST(TransformLocking, HasTheVarianceOfItsEnumerationOnTheWay) {
  for (const double step : {1e-4, 0.5}) {  // small and large differences: both forms of the sums
    NetworkSource source = source_of({});
    Measured measured;
    measured.svrg.refresh(source, measured.generator);
    train_a_little(source, step);
    expect_moments_of_enumeration(source, measured);
  }
}

TEST(TransformLocking, WithoutItThereIsVarianceAtTheSnapshotToo) {
  NetworkSource source = source_of({});
  Measured measured;
  measured.svrg.refresh(source, measured.generator);
  const at::Tensor before = all_gradients(source);
  source.set_key(kOtherKey);
  const at::Tensor difference = all_gradients(source) - before;
  const auto found = measured.measure(source).moments.front();
  EXPECT_TRUE(near(found.trace_covariance, test::dense_trace_covariance(difference) / kBatchSize,
                   kTolerance));
  EXPECT_GT(found.variance_ratio, 0);
  EXPECT_TRUE(same_bits(gradients_at(source, *measured.svrg.snapshot()), before))
      << "the snapshot keeps its transforms";
  expect_moments_of_enumeration(source, measured);
  train_a_little(source, 0.5);
  expect_moments_of_enumeration(source, measured);
}

TEST(BatchNormPolicies, EvalKeepsTheSnapshotsOwnStatistics) {
  for (const double step : {1e-4, 0.5}) {
    NetworkSource source = source_of({.norm = "batch"});
    train_a_little(source, 0.1);
    Measured measured;
    measured.svrg.refresh(source, measured.generator);
    const at::Tensor before = all_gradients(source);
    EXPECT_EQ(measured.measure(source).moments.front().variance_ratio, 0);
    train_a_little(source, step);
    EXPECT_TRUE(same_bits(gradients_at(source, *measured.svrg.snapshot()), before));
    expect_moments_of_enumeration(source, measured);
  }
}

ParameterList statistics_of(const NetworkSource& source) {
  ParameterList copies;
  for (const auto& statistic : source.network().buffers()) copies.push_back(statistic.clone());
  return copies;
}

TEST(BatchNormPolicies, ResetPutsTheRunningStatisticsBackBitForBit) {
  NetworkSource source = source_of({"batch", BatchNormPolicy::kReset});
  train_a_little(source, 0.1);
  Measured measured;
  const TrainMode train_mode(source.network());
  EXPECT_FALSE(source.separable());
  measured.svrg.refresh(source, measured.generator);
  const auto batch = measured.svrg.draw(measured.generator);
  source.weighted_gradient(batch.indices, batch.weights);
  const ParameterList before = statistics_of(source);
  {
    const AtSnapshot there(source, *measured.svrg.snapshot());
    source.weighted_gradient(batch.indices, batch.weights);
    EXPECT_FALSE(same_bits(statistics_of(source), before));
  }
  EXPECT_TRUE(same_bits(statistics_of(source), before));
}

TEST(BatchNormPolicies, TrainLetsTheSnapshotMoveThem) {
  NetworkSource source = source_of({"batch", BatchNormPolicy::kTrain});
  Measured measured;
  const TrainMode train_mode(source.network());
  measured.svrg.refresh(source, measured.generator);
  const auto batch = measured.svrg.draw(measured.generator);
  const ParameterList before = statistics_of(source);
  {
    const AtSnapshot there(source, *measured.svrg.snapshot());
    source.weighted_gradient(batch.indices, batch.weights);
  }
  EXPECT_FALSE(same_bits(statistics_of(source), before));
}

TEST(BatchNormPolicies, ASnapshotByMinibatchesIsTheirMean) {
  NetworkSource source = source_of({"batch", BatchNormPolicy::kReset});
  const TrainMode train_mode(source.network());
  Measured measured;
  EXPECT_EQ(measured.svrg.refresh(source, measured.generator), 4) << "one of five is left out";
  auto same_generator = test::generator_of(9);
  const at::Tensor order =
      at::randperm(kExamples, same_generator, at::TensorOptions().dtype(at::kLong));
  at::Tensor expected = at::zeros({source.parameter_count()}, at::kDouble);
  for (int64_t b = 0; b < 2; ++b) {
    expected += test::flatten(source.weighted_gradient(order.slice(0, 2 * b, 2 * b + 2),
                                                       at::full({2}, 0.5, at::kDouble))) /
                2;
  }
  EXPECT_TRUE(tensor_near(test::flatten(measured.svrg.snapshot()->gradient), expected, 1e-13));
  EXPECT_TRUE(at::equal(measured.svrg.snapshot()->order, order));
  source.restore(measured.svrg.snapshot()->state);
  EXPECT_TRUE(test::same_bits(gradient_by_minibatches(source, order, 2),
                              measured.svrg.snapshot()->gradient));
}

// Where examples do not separate, the ratio is that of the sample variances over the same draws.
TEST(BatchNormPolicies, TheSampledRatioIsThatOfTheSameDraws) {
  NetworkSource source = source_of({"batch", BatchNormPolicy::kReset});
  const TrainMode train_mode(source.network());
  Measured measured;
  measured.svrg.refresh(source, measured.generator);
  const MeasureOptions sampled{.mode = MeasureMode::kSampled, .draws = 12};
  const auto fresh = measured.measure(source, sampled).moments.front();
  EXPECT_TRUE(near(fresh.variance_ratio, 0, 1e-20, 1e10)) << "g - g + g~ in every draw";

  train_a_little(source, 0.1);
  const TrainMode again(source.network());
  auto same_generator = measured.generator.clone();
  const auto found = measured.measure(source, sampled).moments.front();
  std::vector<at::Tensor> of_svrg, of_sgd;
  for (int64_t r = 0; r < sampled.draws; ++r) {
    const auto batch = measured.svrg.draw(same_generator);
    of_sgd.push_back(test::flatten(source.weighted_gradient(batch.indices, batch.weights)));
    of_svrg.push_back(test::flatten(measured.svrg.estimate(source, batch)));
  }
  const auto variance = [](const std::vector<at::Tensor>& rows) {
    return at::stack(rows).var(0, /*unbiased=*/true).sum().item<double>();
  };
  EXPECT_TRUE(near(found.variance_ratio, variance(of_svrg) / variance(of_sgd), kTolerance));
  EXPECT_LT(found.variance_ratio_low, found.variance_ratio);
  EXPECT_GT(found.variance_ratio_high, found.variance_ratio);
  EXPECT_TRUE(std::isnan(found.bias_squared) && std::isnan(found.mse));
  EXPECT_EQ(test::refusal([&] { measured.measure(source); }),
            "measure: must be sampled where examples do not separate, as by batch norm in train "
            "mode");
}

}  // namespace
}  // namespace gradist
