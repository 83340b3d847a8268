#include "estimators/interval.h"

#include "data/digits.h"
#include "data/transforms.h"
#include "estimators/gradient_clustering.h"
#include "estimators/measurement.h"
#include "models/mlp.h"
#include "models/network_source.h"
#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <iostream>

namespace gradist {
namespace {

using test::near;
using test::normal;
using test::VectorSource;

constexpr int64_t kSeeds = 400;

// --- closed forms --------------------------------------------------------------------------------

TEST(LogIntervalTest, IsSymmetricOnTheLogarithm) {
  const Interval interval = log_interval(4, 0.25, 10);
  // Student's 0.975 quantile at 10 degrees is 2.228138852; standard error over value is 1/8.
  EXPECT_TRUE(near(interval.low, 4 * std::exp(-2.228138852 / 8), 1e-9));
  EXPECT_TRUE(near(interval.high, 4 * std::exp(2.228138852 / 8), 1e-9));
}

TEST(LogIntervalTest, UsesTheQuantileOfTheDegreesOfFreedom) {
  const auto half_width = [](double degrees) { return std::log(log_interval(1, 1, degrees).high); };
  EXPECT_TRUE(near(half_width(1), std::tan(0.475 * M_PI), 1e-9));  // Cauchy
  EXPECT_TRUE(near(half_width(2), 0.95 * std::sqrt(2 / (1 - 0.95 * 0.95)), 1e-9));
  EXPECT_TRUE(near(half_width(1e9), 1.959963985, 1e-8));  // normal
  EXPECT_EQ(half_width(0.3), half_width(1));
}

TEST(LogIntervalTest, IsAPointForAZeroValue) {
  const Interval interval = log_interval(0, 0, 5);
  EXPECT_EQ(interval.low, 0);
  EXPECT_EQ(interval.high, 0);
}

TEST(LogIntervalTest, IsAPointWithoutSpread) {
  const Interval interval = log_interval(3, 0, 5);
  EXPECT_EQ(interval.low, 3);
  EXPECT_EQ(interval.high, 3);
}

double variance_of_rows(const at::Tensor& rows) {
  return rows.var(0, /*unbiased=*/true).sum().item<double>();
}

at::Tensor deviations_of_rows(const at::Tensor& rows) {
  return (rows - rows.mean(0)).square().sum(1);
}

/// The variance of the rows without each one of them, [n].
at::Tensor variances_without_one(const at::Tensor& rows) {
  std::vector<double> values;
  for (int64_t i = 0; i < rows.size(0); ++i) {
    values.push_back(variance_of_rows(at::cat({rows.slice(0, 0, i), rows.slice(0, i + 1)})));
  }
  return at::tensor(values, at::kDouble);
}

/// (n - 1) / n sum_i (v_i - mean v)^2 for values v_i without example i.
double jackknife(const at::Tensor& values) {
  const auto n = static_cast<double>(values.numel());
  return (n - 1) / n * (values - values.mean()).square().sum().item<double>();
}

TEST(JackknifeVarianceTest, IsTheDeleteOneJackknife) {
  for (const int64_t n : {3, 4, 17}) {
    const at::Tensor rows = normal({n, 3}, static_cast<uint64_t>(n));
    const double expected = jackknife(variances_without_one(rows));
    EXPECT_TRUE(near(jackknife_variance(deviations_of_rows(rows)), expected, 1e-12)) << n;
  }
}

// log(x / y) is x / x_0 - y / y_0 to first order about the variances x_0, y_0 of all.
TEST(RatioIntervalTest, IsTheDeleteOneJackknifeOfTheLinearisedLogarithm) {
  for (const int64_t n : {3, 4, 17}) {
    const at::Tensor below = normal({n, 3}, static_cast<uint64_t>(n));
    const at::Tensor above = 0.5 * below + normal({n, 3}, static_cast<uint64_t>(n + 100));
    const at::Tensor change = variances_without_one(above) / variance_of_rows(above) -
                              variances_without_one(below) / variance_of_rows(below);
    const double ratio = variance_of_rows(above) / variance_of_rows(below);
    for (const double unseen : {1.0, 0.3}) {
      const Interval expected = log_interval(ratio, ratio * ratio * unseen * jackknife(change),
                                             static_cast<double>(n - 1));
      const Interval found =
          ratio_interval(ratio, deviations_of_rows(above), deviations_of_rows(below), unseen);
      EXPECT_TRUE(near(found.low, expected.low, 1e-10)) << n;
      EXPECT_TRUE(near(found.high, expected.high, 1e-10)) << n;
    }
  }
}

TEST(RatioIntervalTest, WhatBothHaveInCommonCancels) {
  const at::Tensor deviations = normal({40}, 85).exp();
  const Interval point = ratio_interval(4, 4 * deviations, deviations);
  EXPECT_TRUE(near(point.low, 4, 1e-12));
  EXPECT_TRUE(near(point.high, 4, 1e-12));
}

TEST(JackknifeVarianceTest, IsUndefinedBelowThree) {
  EXPECT_TRUE(std::isnan(jackknife_variance(at::ones({2}, at::kDouble))));
  EXPECT_EQ(jackknife_variance(at::ones({3}, at::kDouble)), 0);
}

Interval student_interval(double value, const StratumSpread& stratum) {
  const auto n = static_cast<double>(stratum.squared_deviations.numel());
  const double variance = stratum.weight * stratum.weight * stratum.unseen *
                          jackknife_variance(stratum.squared_deviations);
  return log_interval(value, variance, n - 1);
}

/// Squared deviations q and the s^2 they belong to.
StratumSpread spread_of(const at::Tensor& squared_deviations, double unseen = 1) {
  return {squared_deviations, 1.0, unseen};
}

double variance_of(const StratumSpread& stratum) {
  return (stratum.squared_deviations.sum() / (stratum.squared_deviations.numel() - 1))
      .item<double>();
}

TEST(BootstrapIntervalTest, ReachesFurtherUpThanStudentsOnHeavyTails) {
  const auto heavy = spread_of(normal({300}, 88).mul(2).exp());
  const double value = variance_of(heavy);
  const Interval student = student_interval(value, heavy);
  const Interval bootstrap = bootstrap_interval(value, {heavy});
  EXPECT_LE(bootstrap.low, student.low * (1 + 1e-12));
  EXPECT_GT(std::log(bootstrap.high / value), 1.2 * std::log(student.high / value));
}

TEST(BootstrapIntervalTest, IsCloseToStudentsOnLightTails) {
  const auto light = spread_of(normal({1000, 20}, 89).square().sum(1));
  const double value = variance_of(light);
  const Interval student = student_interval(value, light);
  const Interval bootstrap = bootstrap_interval(value, {light});
  EXPECT_LE(bootstrap.low, student.low * (1 + 1e-12));
  EXPECT_GE(bootstrap.high, student.high * (1 - 1e-12));
  EXPECT_LT(std::log(bootstrap.high / bootstrap.low), 1.2 * std::log(student.high / student.low));
}

TEST(BootstrapIntervalTest, RepeatsAndShrinksAsMoreIsSeen) {
  const at::Tensor deviations = normal({50}, 87).exp();
  const double value = variance_of(spread_of(deviations));
  const Interval once = bootstrap_interval(value, {spread_of(deviations)});
  const Interval again = bootstrap_interval(value, {spread_of(deviations)});
  EXPECT_EQ(once.low, again.low);
  EXPECT_EQ(once.high, again.high);
  const Interval seen = bootstrap_interval(value, {spread_of(deviations, 0.1)});
  EXPECT_GT(seen.low, once.low);
  EXPECT_LT(seen.high, once.high);
}

TEST(BootstrapIntervalTest, IsScaleFree) {
  const at::Tensor deviations = normal({40}, 86).exp();
  const double value = variance_of(spread_of(deviations));
  const Interval plain = bootstrap_interval(value, {spread_of(deviations)});
  const Interval scaled = bootstrap_interval(
      4e-20 * value, {{deviations * 4e-20, 0.5, 1.0}, {deviations * 4e-20, 0.5, 0.0}});
  // Half of it is known exactly, so the same resamples move it by half.
  EXPECT_GT(scaled.low / 4e-20, plain.low);
  EXPECT_LT(scaled.high / 4e-20, plain.high);
  const Interval same = bootstrap_interval(4 * value, {{deviations * 4, 1.0, 1.0}});
  EXPECT_TRUE(near(same.low, 4 * plain.low, 1e-12));
  EXPECT_TRUE(near(same.high, 4 * plain.high, 1e-12));
}

TEST(BootstrapIntervalTest, OfAHandfulIsAtLeastStudents) {
  const auto three = spread_of(at::tensor({1.0, 2.0, 4.0}, at::kDouble));
  const Interval student = student_interval(3.5, three);
  const Interval bootstrap = bootstrap_interval(3.5, {three});
  EXPECT_LE(bootstrap.low, student.low * (1 + 1e-12));
  EXPECT_GE(bootstrap.high, student.high * (1 - 1e-12));
}

TEST(BootstrapIntervalTest, IsAPointWithoutUncertainty) {
  for (const double value : {0.0, 2.0}) {
    const Interval known = bootstrap_interval(value, {});
    EXPECT_EQ(known.low, value);
    EXPECT_EQ(known.high, value);
  }
  EXPECT_EQ(bootstrap_interval(2, {spread_of(at::full({5}, 1.6, at::kDouble))}).high, 2);
}

// --- coverage ------------------------------------------------------------------------------------

/// Hits of n trials of probability p, in a band that holds all but 0.05 % on either side.
struct Band {
  int64_t low = 0;
  int64_t high = 0;
};

Band binomial_band(int64_t trials, double p) {
  const auto n = static_cast<double>(trials);
  const auto probability = [&](int64_t hits) {
    const auto k = static_cast<double>(hits);
    return std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) +
                    k * std::log(p) + (n - k) * std::log1p(-p));
  };
  Band band{0, trials};
  for (double below = probability(0); below < 5e-4; below += probability(++band.low)) {
  }
  for (double above = probability(trials); above < 5e-4; above += probability(--band.high)) {
  }
  return band;
}

TEST(BinomialBandTest, HoldsSumsOfFewTrials) {
  // 2^-11 < 0.0005 < 12 x 2^-11.
  const Band coins = binomial_band(11, 0.5);
  EXPECT_EQ(coins.low, 1);
  EXPECT_EQ(coins.high, 10);
}

Measurement measured(GradientSource& source, const GradientEstimator& estimator,
                     const MeasureOptions& options, uint64_t seed) {
  auto generator = test::generator_of(seed);
  return measure(source, {&estimator}, options, generator);
}

double exact_variance(GradientSource& source, const GradientEstimator& estimator) {
  return measured(source, estimator, {}, 0).moments.front().average_variance;
}

/// What of the moments has an interval.
struct Quantity {
  double Moments::*value;
  double Moments::*low;
  double Moments::*high;
};

constexpr Quantity kVariance = {&Moments::average_variance, &Moments::interval_low,
                                &Moments::interval_high};
constexpr Quantity kRatio = {&Moments::variance_ratio, &Moments::variance_ratio_low,
                             &Moments::variance_ratio_high};

/// How often the interval of a measurement held the exact value.
int64_t hits(GradientSource& source, const GradientEstimator& estimator,
             const MeasureOptions& options, int64_t seeds, const Quantity& what = kVariance) {
  const double exact = measured(source, estimator, {}, 0).moments.front().*what.value;
  int64_t count = 0;
  for (int64_t seed = 0; seed < seeds; ++seed) {
    const Moments moments =
        measured(source, estimator, options, static_cast<uint64_t>(1000 + seed)).moments.front();
    count += moments.*what.low <= exact && exact <= moments.*what.high ? 1 : 0;
  }
  return count;
}

void expect_coverage(const std::string& what, int64_t hit) {
  const Band band = binomial_band(kSeeds, 0.95);
  std::cout << "[ coverage ] " << what << ": " << hit << " of " << kSeeds << ", band [" << band.low
            << ", " << band.high << "]\n";
  EXPECT_GE(hit, band.low) << what;
  EXPECT_LE(hit, band.high) << what;
}

MeasureOptions subset_of(int64_t examples) {
  return {.mode = MeasureMode::kSubset, .examples = examples};
}

/// Normal gradients about a mean, and normal curvatures, so that differences from a snapshot are
/// normal too.
VectorSource light_tailed() {
  return VectorSource(normal({2000, 20}, 90) + 0.5, normal({2000, 20}, 91));
}

TEST(CoverageTest, OfMinibatchesOnLightTails) {
  VectorSource source = light_tailed();
  const auto sg_b = make_estimator("sg-b", {.batch_size = 32}, source.examples());
  expect_coverage("sg-b, n = 100", hits(source, *sg_b, subset_of(100), kSeeds));
  expect_coverage("sg-b, n = 500", hits(source, *sg_b, subset_of(500), kSeeds));
}

TEST(CoverageTest, OfDifferencesOnLightTails) {
  VectorSource source = light_tailed();
  const auto svrg = make_estimator("svrg", {.batch_size = 32}, source.examples());
  auto generator = test::generator_of(92);
  svrg->refresh(source, generator);
  source.move(0.5, 93);
  expect_coverage("svrg, n = 200", hits(source, *svrg, subset_of(200), kSeeds));
  expect_coverage("svrg / sg-b, n = 200", hits(source, *svrg, subset_of(200), kSeeds, kRatio));
}

/// Clusters of unequal size and spread.
TEST(CoverageTest, OfClustersOnLightTails) {
  const at::Tensor labels = at::arange(2000, at::kDouble).sqrt().floor_divide(5).to(at::kLong);
  VectorSource source(normal({2000, 20}, 94) * (labels + 1).unsqueeze(1) +
                      normal({9, 20}, 95).index_select(0, labels) * 5);
  GradientClustering gc("gc", 9, LloydOptions{});
  gc.set_clustering(Clustering(labels));
  expect_coverage("gc, n = 200", hits(source, gc, subset_of(200), kSeeds));
  expect_coverage("gc, n = 600", hits(source, gc, subset_of(600), kSeeds));
}

MeasureOptions sampled_with(int64_t draws) {
  return {.mode = MeasureMode::kSampled, .draws = draws};
}

TEST(CoverageTest, OfSampledMinibatchesOnLightTails) {
  VectorSource source(normal({200, 20}, 96));
  const auto sg_b = make_estimator("sg-b", {.batch_size = 8}, source.examples());
  expect_coverage("sg-b, 30 draws", hits(source, *sg_b, sampled_with(30), kSeeds));
}

TEST(CoverageTest, OfSampledDifferencesOnLightTails) {
  VectorSource source(normal({200, 20}, 98), normal({200, 20}, 99));
  const auto svrg = make_estimator("svrg", {.batch_size = 8}, source.examples());
  auto generator = test::generator_of(100);
  svrg->refresh(source, generator);
  source.move(0.5, 101);
  expect_coverage("svrg, 30 draws", hits(source, *svrg, sampled_with(30), kSeeds));
  expect_coverage("svrg / sg-b, 30 draws", hits(source, *svrg, sampled_with(30), kSeeds, kRatio));
}

TEST(CoverageTest, OfSampledClustersOnLightTails) {
  const at::Tensor labels = at::arange(200, at::kLong).remainder(9);
  VectorSource source(normal({200, 20}, 102) + normal({9, 20}, 103).index_select(0, labels) * 5);
  GradientClustering gc("gc", 9, LloydOptions{});
  gc.set_clustering(Clustering(labels));
  expect_coverage("gc, 30 draws", hits(source, gc, sampled_with(30), kSeeds));
}

// --- digits, where few examples carry most of the squared norm -----------------------------------

/// The share of the top 1 % of the examples in the sum of all squared norms.
double top_share(const at::Tensor& squared_norms) {
  const at::Tensor sorted = std::get<0>(squared_norms.sort(/*dim=*/0, /*descending=*/true));
  return (sorted.slice(0, 0, sorted.numel() / 100).sum() / sorted.sum()).item<double>();
}

/// A small network on the digits, trained by plain SGD.
class DigitsTest : public ::testing::Test {
 protected:
  void train(int64_t steps) {
    const auto estimator = make_estimator("sg-b", {.batch_size = 32}, source_.examples());
    const c10::NoGradGuard no_grad;
    for (int64_t step = 0; step < steps; ++step) {
      const ParameterList gradient = estimator->estimate(source_, estimator->draw(generator_));
      for (size_t l = 0; l < gradient.size(); ++l) {
        source_.parameters()[l].sub_(gradient[l], 0.1);
      }
    }
  }

  /// Until 1 % of the examples carry half of the squared norm.
  void train_to_heavy_tails() {
    const auto estimator = make_estimator("sg-b", {.batch_size = 32}, source_.examples());
    double share = 0;
    int64_t steps = 0;
    for (; share < 0.5 && steps < 20'000; steps += 1000) {
      train(1000);
      share = top_share(measured(source_, *estimator, {}, 0).squared_norms);
    }
    std::cout << "[ digits   ] after " << steps << " steps 1 % of the examples carry " << share
              << " of the squared norm\n";
    ASSERT_GE(share, 0.5);
  }

  static DataSplit standardized_digits() {
    DataSplit split = load_digits();
    standardize(split);
    return split;
  }

  at::Generator generator_ = test::generator_of(97);
  NetworkSource source_{std::make_shared<Mlp>(64, std::vector<int64_t>{8}, 10, generator_),
                        standardized_digits().train, Loss::kCrossEntropy};
};

TEST_F(DigitsTest, CoverageOnHeavyTails) {
  train_to_heavy_tails();
  // All gradients formed once; then a measurement costs a selection of rows.
  VectorSource formed(
      test::dense(source_.gradients(at::arange(source_.examples(), at::kLong))).to(at::kFloat));
  const auto sg_b = make_estimator("sg-b", {.batch_size = 32}, source_.examples());
  EXPECT_TRUE(near(exact_variance(formed, *sg_b), exact_variance(source_, *sg_b), 1e-5));
  const int64_t hit = hits(formed, *sg_b, subset_of(1000), kSeeds);
  const double coverage = static_cast<double>(hit) / static_cast<double>(kSeeds);
  std::cout << "[ coverage ] sg-b on digits, n = 1000: " << coverage << "\n";
  EXPECT_GE(coverage, 0.80);
}

TEST_F(DigitsTest, ExactLiesInSubsetAndSampledIntervals) {
  constexpr int64_t kFewSeeds = 20;
  train(200);
  std::vector<std::unique_ptr<GradientEstimator>> estimators;
  for (const std::string name : {"sg-b", "sg-2b", "svrg", "gc"}) {
    estimators.push_back(
        make_estimator(name, {.batch_size = 16, .gc_iterations = 2}, source_.examples()));
    estimators.back()->refresh(source_, generator_);
  }
  train(50);
  const Band band = binomial_band(kFewSeeds, 0.95);
  for (const auto& estimator : estimators) {
    const auto subset = hits(source_, *estimator, subset_of(1000), kFewSeeds);
    const auto sampled = hits(source_, *estimator, sampled_with(30), kFewSeeds);
    std::cout << "[ digits   ] " << estimator->name() << ": exact inside " << subset
              << " subset and " << sampled << " sampled intervals of " << kFewSeeds << "\n";
    EXPECT_GE(subset, band.low) << estimator->name();
    EXPECT_GE(sampled, band.low) << estimator->name();
  }
}

}  // namespace
}  // namespace gradist
