// The contract of every estimator: all draws of tiny problems enumerated in float64, so that no
// statistics enter. Rows of the tables: estimators x problems x replacement.

#include "estimators/gradient_clustering.h"
#include "estimators/measurement.h"
#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <tuple>

namespace gradist {
namespace {

using test::near;
using test::refusal;
using test::tensor_near;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr double kTolerance = 1e-12;
constexpr int64_t kExamples = 5;

/// A problem whose two parameters are one coordinate each, so that its layers' variances are its
/// coordinates'.
constexpr const char* kTwoCoordinates = "two_coordinates";

std::unique_ptr<test::TestSource> make_source(const std::string& problem) {
  if (problem == kTwoCoordinates) {
    return std::make_unique<test::VectorSource>(test::normal({kExamples, 2}, 40),
                                                test::normal({kExamples, 2}, 41));
  }
  return test::make_problem(problem).source;
}

std::unique_ptr<GradientEstimator> refreshed(const std::string& name,
                                             const EstimatorOptions& options,
                                             GradientSource& source) {
  auto estimator = make_estimator(name, options, source.examples());
  auto generator = test::generator_of(7);
  estimator->refresh(source, generator);
  return estimator;
}

Moments exact_moments(GradientSource& source, const GradientEstimator& estimator,
                      bool per_coordinate = false) {
  auto generator = test::generator_of(8);
  const MeasureOptions options{.per_coordinate = per_coordinate};
  return measure(source, {&estimator}, options, generator).moments.front();
}

/// The largest squares of what an estimate is summed from: g_i and, with a snapshot, g~_i.
struct Terms {
  at::Tensor squares;       ///< [P]
  double squared_norm = 0;  ///< of an example
};

Terms terms_of(const test::TestSource& source, const GradientEstimator& estimator) {
  at::Tensor squares = source.oracle().square();
  if (estimator.snapshot() != nullptr) {
    const ParameterSwap swap(source, estimator.snapshot()->parameters);
    squares = at::cat({squares, source.oracle().square()});
  }
  return {std::get<0>(squares.max(0)), squares.sum(1).max().item<double>()};
}

/// estimate() of every possible draw.
struct Enumeration {
  at::Tensor rows;           ///< [M, P]
  at::Tensor probabilities;  ///< [M]
};

/// Rows that are rounding of their terms in a coordinate are zero there: a ratio of two such
/// numbers says nothing.
Enumeration enumerate(GradientSource& source, const GradientEstimator& estimator,
                      const Terms& terms) {
  std::vector<at::Tensor> rows;
  std::vector<double> probabilities;
  const at::Tensor rounding = terms.squares.sqrt() * 1e-14;
  for (const test::PossibleDraw& draw : test::enumerate_draws(estimator.design())) {
    const at::Tensor row = test::flatten(estimator.estimate(source, draw.batch));
    rows.push_back(row.masked_fill(row.abs() <= rounding, 0));
    probabilities.push_back(draw.probability);
  }
  return {at::stack(rows), at::tensor(probabilities, at::kDouble)};
}

void expect_normalized_variance(const Moments& measured, const test::DenseMoments& enumerated,
                                const Terms& terms) {
  const auto [expected, left_out] = test::normalized_variance_of(enumerated);
  EXPECT_EQ(measured.zero_coordinates, left_out);
  // A coordinate's ratio is known no better than its second moment is against its terms.
  const at::Tensor condition = (terms.squares / enumerated.second_moment).clamp_min(1);
  const double scale = condition.masked_select(enumerated.second_moment != 0).mean().item<double>();
  EXPECT_TRUE(near(measured.normalized_variance, expected, kTolerance, scale));
}

void expect_layer_variances(const Moments& measured, const at::Tensor& variance,
                            const GradientSource& source, double scale) {
  ASSERT_EQ(measured.layer_average_variance.size(), source.parameters().size());
  int64_t begin = 0;
  for (size_t l = 0; l < source.parameters().size(); ++l) {
    const int64_t end = begin + source.parameters()[l].numel();
    EXPECT_TRUE(near(measured.layer_average_variance[l],
                     variance.slice(0, begin, end).mean().item<double>(), kTolerance, scale))
        << source.parameter_names()[l];
    begin = end;
  }
}

/// Each moment of docs/measuring.md, by definition from the enumeration.
void expect_contract(test::TestSource& source, const GradientEstimator& estimator) {
  const at::Tensor full_gradient = source.oracle().mean(0);
  const Terms terms = terms_of(source, estimator);
  const auto [rows, probabilities] = enumerate(source, estimator, terms);
  const test::DenseMoments enumerated = test::moments_of(rows, probabilities);
  const double trace = enumerated.variance.sum().item<double>();
  const double mean_square = enumerated.second_moment.sum().item<double>();
  const double signal = full_gradient.square().sum().item<double>();
  const double scale = terms.squared_norm;

  EXPECT_TRUE(near(probabilities.sum().item<double>(), 1, kTolerance));
  EXPECT_TRUE(tensor_near(enumerated.mean, full_gradient, kTolerance, std::sqrt(scale)));

  const Moments measured = exact_moments(source, estimator);
  EXPECT_TRUE(near(measured.trace_covariance, trace, kTolerance, scale));
  EXPECT_TRUE(near(measured.average_variance, trace / static_cast<double>(source.parameter_count()),
                   kTolerance, scale));
  EXPECT_TRUE(near(measured.mean_squared_norm, mean_square, kTolerance, scale));
  EXPECT_TRUE(near(measured.noise_ratio, trace / mean_square, kTolerance, scale / mean_square));
  EXPECT_TRUE(near(measured.noise_to_signal, trace / signal, kTolerance,
                   scale / signal * (1 + trace / signal)));
  EXPECT_EQ(measured.bias_squared, 0);
  EXPECT_TRUE(near(measured.mse,
                   (probabilities * (rows - full_gradient).square().sum(1)).sum().item<double>(),
                   kTolerance, scale));
  expect_layer_variances(measured, enumerated.variance, source, scale);
  expect_normalized_variance(measured, enumerated, terms);
  EXPECT_TRUE(measured.variance.empty());
  EXPECT_TRUE(tensor_near(test::flatten(exact_moments(source, estimator, true).variance),
                          enumerated.variance, kTolerance, terms.squares.max().item<double>()));
  EXPECT_TRUE(std::isnan(measured.interval_low) && std::isnan(measured.interval_high));
  EXPECT_EQ(measured.gradient_evaluations,
            source.examples() * (estimator.snapshot() != nullptr ? 2 : 1));
}

/// Batches up to the whole set, and fewer clusters than draws.
struct Setting {
  std::string estimator;
  int64_t batch_size;
  int64_t clusters;
  std::string allocation = "proportional";
  bool balanced = false;
};

std::string piece(const std::string& text) { return text; }
std::string piece(bool replacement) { return replacement ? "replacement" : "no_replacement"; }
std::string piece(const Setting& setting) {
  return setting.estimator + "_b" + std::to_string(setting.batch_size) + "_k" +
         std::to_string(setting.clusters) + "_" + setting.allocation +
         (setting.balanced ? "_balanced" : "");
}

/// What a row of a table is called.
template <typename... Columns>
std::string row_name(const std::tuple<Columns...>& row) {
  std::string name =
      std::apply([](const auto&... column) { return ((piece(column) + "_") + ...); }, row);
  name.pop_back();
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

std::vector<std::string> all_problems() {
  auto names = test::problem_names();
  names.emplace_back(kTwoCoordinates);
  return names;
}

/// Draws by norms are with replacement.
std::vector<std::string> names_drawing(bool replacement) {
  std::vector<std::string> names;
  for (const std::string& name : estimator_names()) {
    if (replacement || (name != "gc-importance" && name != "sg-importance")) names.push_back(name);
  }
  return names;
}

/// Estimator, problem, replacement.
class ContractTest : public ::testing::TestWithParam<std::tuple<std::string, std::string, bool>> {
 protected:
  std::unique_ptr<test::TestSource> source_ = make_source(std::get<1>(GetParam()));
  EstimatorOptions options_{.batch_size = 2, .replacement = std::get<2>(GetParam())};
  std::unique_ptr<GradientEstimator> estimator_ =
      refreshed(std::get<0>(GetParam()), options_, *source_);
};

TEST_P(ContractTest, HoldsRightAfterRefresh) { expect_contract(*source_, *estimator_); }

TEST_P(ContractTest, HoldsFarFromTheRefresh) {
  source_->move(0.5, 60);
  expect_contract(*source_, *estimator_);
}

TEST_P(ContractTest, HoldsNearTheRefresh) {
  source_->move(1e-3, 61);
  expect_contract(*source_, *estimator_);
}

INSTANTIATE_TEST_SUITE_P(AllEstimators, ContractTest,
                         ::testing::Combine(::testing::ValuesIn(names_drawing(true)),
                                            ::testing::ValuesIn(all_problems()),
                                            ::testing::Values(true)),
                         [](const auto& row) { return row_name(row.param); });
INSTANTIATE_TEST_SUITE_P(WithoutReplacement, ContractTest,
                         ::testing::Combine(::testing::ValuesIn(names_drawing(false)),
                                            ::testing::ValuesIn(all_problems()),
                                            ::testing::Values(false)),
                         [](const auto& row) { return row_name(row.param); });

class SettingsTest : public ::testing::TestWithParam<std::tuple<Setting, std::string, bool>> {};

TEST_P(SettingsTest, HoldFreshAndMoved) {
  const auto& [setting, problem, replacement] = GetParam();
  const auto source = make_source(problem);
  const auto estimator = refreshed(setting.estimator,
                                   {.batch_size = setting.batch_size,
                                    .replacement = replacement,
                                    .clusters = setting.clusters,
                                    .allocation = allocation_by_name(setting.allocation),
                                    .balanced = setting.balanced},
                                   *source);
  EXPECT_EQ(estimator->design().draws(), setting.batch_size);
  expect_contract(*source, *estimator);
  source->move(0.5, 62);
  expect_contract(*source, *estimator);
}

INSTANTIATE_TEST_SUITE_P(
    LargeBatchesAndFewClusters, SettingsTest,
    ::testing::Combine(
        ::testing::Values(
            Setting{"sg-b", kExamples, 0}, Setting{"sg-b", 1, 0}, Setting{"svrg", kExamples, 0},
            Setting{"gc", kExamples, 0}, Setting{"gc", 1, 0}, Setting{"gc", 3, 2},
            Setting{"gc", 4, 3}, Setting{"gc", kExamples, 2}, Setting{"gc", kExamples, 1},
            Setting{"gc", 4, 2, "equal"}, Setting{"gc", 4, 2, "neyman"},
            Setting{"gc-descent", kExamples, 0}, Setting{"gc-descent", 3, 2},
            Setting{"gc-descent", 4, 2, "neyman"}, Setting{"gc", 2, 0, "proportional", true},
            Setting{"gc", 4, 2, "equal", true}, Setting{"gc-descent", 2, 0, "proportional", true},
            Setting{"gc-descent", 4, 3, "neyman", true}),
        ::testing::Values("mlp", "linear_regression", kTwoCoordinates), ::testing::Bool()),
    [](const auto& row) { return row_name(row.param); });

INSTANTIATE_TEST_SUITE_P(
    DrawsByNorms, SettingsTest,
    ::testing::Combine(::testing::Values(Setting{"gc-importance", kExamples, 0},
                                         Setting{"gc-importance", 4, 2, "neyman"},
                                         Setting{"sg-importance", 4, 0}),
                       ::testing::Values("mlp", "linear_regression", kTwoCoordinates),
                       ::testing::Values(true)),
    [](const auto& row) { return row_name(row.param); });

/// One problem with and without replacement.
class ProblemTest : public ::testing::TestWithParam<std::tuple<std::string, bool>> {
 protected:
  std::unique_ptr<test::TestSource> source_ = make_source(std::get<0>(GetParam()));
  EstimatorOptions options_{.batch_size = 2, .replacement = std::get<1>(GetParam())};
};

TEST_P(ProblemTest, SvrgIsExactAtItsSnapshot) {
  const auto svrg = refreshed("svrg", options_, *source_);
  const Moments moments = exact_moments(*source_, *svrg);
  EXPECT_EQ(moments.trace_covariance, 0);
  EXPECT_EQ(moments.average_variance, 0);
  EXPECT_EQ(moments.normalized_variance, 0);
  EXPECT_EQ(moments.noise_ratio, 0);
  EXPECT_EQ(moments.noise_to_signal, 0);
  EXPECT_EQ(moments.mse, 0);
  EXPECT_THAT(moments.layer_average_variance, ::testing::Each(0));
}

TEST_P(ProblemTest, ClusteringIsNoWorseThanMinibatchesRightAfterRefresh) {
  for (const int64_t batch_size : {1, 2, 3, 5}) {
    options_.batch_size = batch_size;
    const auto gc = refreshed("gc", options_, *source_);
    const auto sg_b = refreshed("sg-b", options_, *source_);
    const double bound = exact_moments(*source_, *sg_b).trace_covariance;
    const double rounding = kTolerance * terms_of(*source_, *gc).squared_norm;
    EXPECT_LE(exact_moments(*source_, *gc).trace_covariance, bound + rounding)
        << "batch size " << batch_size;
  }
}

INSTANTIATE_TEST_SUITE_P(AllProblems, ProblemTest,
                         ::testing::Combine(::testing::ValuesIn(all_problems()), ::testing::Bool()),
                         [](const auto& row) { return row_name(row.param); });

TEST(MinibatchTest, TwiceTheBatchIsExactlyHalfTheVarianceWithReplacement) {
  for (const std::string& problem : all_problems()) {
    const auto source = make_source(problem);
    for (const int64_t batch_size : {1, 2, 3, 5}) {
      const auto sg_b = refreshed("sg-b", {.batch_size = batch_size}, *source);
      const auto sg_2b = refreshed("sg-2b", {.batch_size = batch_size}, *source);
      const Moments once = exact_moments(*source, *sg_b);
      const Moments twice = exact_moments(*source, *sg_2b);
      // 1 / (2 B) is half of 1 / B in floating point too, and so are all sums of halves.
      EXPECT_EQ(twice.trace_covariance, once.trace_covariance / 2) << problem;
      EXPECT_EQ(twice.average_variance, once.average_variance / 2) << problem;
      for (size_t l = 0; l < once.layer_average_variance.size(); ++l) {
        EXPECT_EQ(twice.layer_average_variance[l], once.layer_average_variance[l] / 2) << problem;
      }
    }
  }
}

TEST(MinibatchTest, TwiceTheBatchIsLessThanHalfWithoutReplacement) {
  const auto source = make_source("mlp");
  const EstimatorOptions options{.batch_size = 2, .replacement = false};
  const double once = exact_moments(*source, *refreshed("sg-b", options, *source)).trace_covariance;
  const double twice =
      exact_moments(*source, *refreshed("sg-2b", options, *source)).trace_covariance;
  // (N - 4) / 4 over (N - 2) / 2 for N = 5.
  EXPECT_TRUE(near(twice, once / 6, kTolerance));
}

TEST(GradientClusteringTest, RepeatedExamplesInClustersOfTheirOwnLeaveNoVariance) {
  const at::Tensor labels = at::tensor({0, 1, 2, 0, 1, 0}, at::kLong);
  test::VectorSource source(test::normal({3, 4}, 44).index_select(0, labels));
  GradientClustering gc("gc", 3, LloydOptions{.clusters = 3});
  gc.set_clustering(Clustering(labels));
  EXPECT_LE(exact_moments(source, gc).trace_covariance,
            kTolerance * terms_of(source, gc).squared_norm);
}

TEST(GradientClusteringTest, EmptyClustersAreKeptAndNotDrawnFrom) {
  test::VectorSource source(test::normal({kExamples, 4}, 45));
  GradientClustering gc("gc", 3, LloydOptions{.clusters = 4});
  gc.set_clustering(Clustering(at::tensor({0, 3, 0, 2, 3}, at::kLong), 4));
  EXPECT_EQ(gc.design().strata[1].draws, 0);
  expect_contract(source, gc);
}

std::string refused(const std::string& name, const EstimatorOptions& options) {
  return refusal([&] { make_estimator(name, options, kExamples); });
}

TEST(MakeEstimatorTest, NamesOptionValueAndRule) {
  EXPECT_EQ(
      refused("sgd", {.batch_size = 2}),
      "estimator = sgd: must be one of sg-b|sg-2b|svrg|gc|gc-descent|gc-importance|sg-importance");
  for (const std::string& name : estimator_names()) {
    EXPECT_EQ(refused(name, {.batch_size = 0}),
              "batch-size = 0: must lie in [1, 5], the number of examples");
    EXPECT_EQ(refused(name, {.batch_size = 6}),
              "batch-size = 6: must lie in [1, 5], the number of examples");
  }
  EXPECT_EQ(refused("gc", {.batch_size = 2, .clusters = 3}),
            "clusters = 3: must be <= batch-size, 2");
  EXPECT_EQ(refused("gc", {.batch_size = 5, .clusters = 6}),
            "clusters = 6: must be <= batch-size, 5");
  EXPECT_EQ(refused("gc", {.batch_size = 2, .gc_iterations = 0}),
            "gc-iterations = 0: must be >= 1");
}

TEST(MakeEstimatorTest, RefusesStepsThatCannotBe) {
  EXPECT_EQ(refused("gc", {.batch_size = 2, .gc_steps = {.rank = 2}}),
            "gc-rank = 2: must be 1 where gc-centers = factors");
  EXPECT_EQ(refused("gc", {.batch_size = 2, .gc_steps = {.fraction = 0}}),
            "gc-fraction = 0: must lie in (0, 1]");
}

/// However the A and U steps are made, what comes of them is a partition.
TEST(GradientClusteringTest, KeepsTheContractWhateverItsSteps) {
  const auto source = make_source("mlp");
  for (const LloydSteps& steps :
       std::vector<LloydSteps>{{.centers = CenterKind::kSvd, .rank = 2},
                               {.weighting = Weighting::kFixed},
                               {.weighting = Weighting::kNone, .fraction = 0.5},
                               {.minibatch = 2, .decay = 0.9}}) {
    const auto gc =
        refreshed("gc", {.batch_size = 2, .gc_steps = steps, .gc_parameters = {"!*1"}}, *source);
    expect_contract(*source, *gc);
  }
}

TEST(MakeEstimatorTest, DrawsByNormsAreWithReplacement) {
  for (const std::string name : {"gc-importance", "sg-importance"}) {
    EXPECT_EQ(
        refused(name, {.batch_size = 2, .replacement = false}),
        "replacement = no: must be yes for " + name + ", which draws by the norms of gradients");
    EXPECT_EQ(refused(name, {.batch_size = 2, .importance_mix = 0}),
              "importance-mix = 0: must lie in (0, 1]");
  }
}

TEST(ImportanceTest, IsSgBWhereTheMixtureIsUniform) {
  const auto source = make_source("mlp");
  const auto importance =
      refreshed("sg-importance", {.batch_size = 2, .importance_mix = 1}, *source);
  const auto sg_b = refreshed("sg-b", {.batch_size = 2}, *source);
  EXPECT_TRUE(near(exact_moments(*source, *importance).trace_covariance,
                   exact_moments(*source, *sg_b).trace_covariance, kTolerance));
}

TEST(ImportanceTest, MeasuresBesideOthersAndNotBySubset) {
  const auto source = make_source("mlp");
  const EstimatorOptions options{.batch_size = 2};
  std::vector<std::unique_ptr<GradientEstimator>> owned;
  std::vector<const GradientEstimator*> all;
  for (const std::string& name : estimator_names()) {
    owned.push_back(refreshed(name, options, *source));
    all.push_back(owned.back().get());
  }
  source->move(0.3, 63);
  auto generator = test::generator_of(8);
  const auto together = measure(*source, all, {}, generator);
  for (size_t e = 0; e < all.size(); ++e) {
    EXPECT_TRUE(near(together.moments[e].trace_covariance,
                     exact_moments(*source, *all[e]).trace_covariance, kTolerance))
        << all[e]->name();
  }
  EXPECT_THAT(refusal([&] {
                measure(*source, {all.back()},
                        {.mode = MeasureMode::kSubset, .examples = kExamples}, generator);
              }),
              AllOf(test::is_one_line(), HasSubstr("measure = subset")));
}

TEST(MakeEstimatorTest, RefusesMoreDrawsThanExamplesWithoutReplacement) {
  EXPECT_THAT(refused("sg-2b", {.batch_size = 3, .replacement = false}),
              AllOf(test::is_one_line(), HasSubstr("batch-size = 3"), HasSubstr("6"),
                    HasSubstr("<= the number of examples, 5, without replacement")));
  EXPECT_EQ(refused("sg-2b", {.batch_size = 3, .replacement = true}), "");
  EXPECT_EQ(refused("sg-2b", {.batch_size = 2, .replacement = false}), "");
  EXPECT_EQ(refused("sg-b", {.batch_size = 5, .replacement = false}), "");
}

TEST(ClusteringTest, RefusesMoreClustersThanExamplesOrDraws) {
  const at::Tensor labels = at::tensor({0, 1, 2, 0, 1}, at::kLong);
  EXPECT_EQ(refusal([&] { Clustering(labels, 6); }),
            "clusters = 6: must be <= the number of examples, 5");
  GradientClustering gc("gc", 2, LloydOptions{.clusters = 3});
  EXPECT_EQ(refusal([&] { gc.set_clustering(Clustering(labels)); }),
            "draws = 2: must be >= the number of clusters, 3, so that each is drawn from");
}

TEST(DrawTest, TakesWhatTheDesignSaysAndRepeatsForASeed) {
  const auto source = make_source("mlp");
  for (const bool replacement : {true, false}) {
    for (const std::string& name : names_drawing(replacement)) {
      const auto estimator =
          refreshed(name, {.batch_size = 2, .replacement = replacement}, *source);
      auto generator = test::generator_of(9);
      auto again = test::generator_of(9);
      for (int draw = 0; draw < 20; ++draw) {
        const WeightedBatch batch = estimator->draw(generator);
        const WeightedBatch same = estimator->draw(again);
        EXPECT_TRUE(test::same_bits(batch.indices, same.indices));
        EXPECT_TRUE(test::same_bits(batch.weights, same.weights));
        int64_t begin = 0;
        for (const Stratum& stratum : estimator->design().strata) {
          const at::Tensor drawn = batch.indices.slice(0, begin, begin + stratum.draws);
          begin += stratum.draws;
          EXPECT_TRUE(at::isin(drawn, stratum.members).all().item<bool>()) << name;
          if (!replacement) {
            EXPECT_EQ(std::get<0>(at::_unique(drawn)).numel(), stratum.draws) << name;
          }
        }
        EXPECT_EQ(begin, batch.indices.numel());
      }
    }
  }
}

}  // namespace
}  // namespace gradist
