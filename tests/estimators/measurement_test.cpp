#include "estimators/measurement.h"

#include "data/digits.h"
#include "estimators/difference_sums.h"
#include "estimators/gradient_clustering.h"
#include "estimators/interval.h"
#include "estimators/moment_pass.h"
#include "estimators/svrg.h"
#include "models/mlp.h"
#include "models/network_source.h"
#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <cmath>

namespace gradist {
namespace {

using test::near;
using test::normal;
using test::refusal;
using test::same_bits;
using test::tensor_near;
using test::VectorSource;

constexpr double kTolerance = 1e-12;

/// Quadratics whose full gradient is large against its error from a few examples.
VectorSource quadratics(int64_t examples = 12, int64_t parameters = 6) {
  return VectorSource(normal({examples, parameters}, 70) + 4, normal({examples, parameters}, 71));
}

/// Clusters 0, 1, .. K-1 in turn.
Clustering in_turn(int64_t examples, int64_t clusters, int64_t stride = 1) {
  return Clustering((at::arange(examples, at::kLong) * stride).remainder(clusters), clusters);
}

/// Estimators and the pointers that `measure` wants.
class EstimatorSet {
 public:
  EstimatorSet& add(const std::string& name, GradientSource& source, EstimatorOptions options) {
    auto estimator = make_estimator(name, options, source.examples());
    auto generator = test::generator_of(11);
    estimator->refresh(source, generator);
    owned_.push_back(std::move(estimator));
    return *this;
  }

  EstimatorSet& add_clustered(Clustering clustering, int64_t draws) {
    auto gc = std::make_unique<GradientClustering>("gc", draws, LloydOptions{});
    gc->set_clustering(std::move(clustering));
    owned_.push_back(std::move(gc));
    return *this;
  }

  std::vector<const GradientEstimator*> all() const {
    std::vector<const GradientEstimator*> pointers;
    for (const auto& estimator : owned_) pointers.push_back(estimator.get());
    return pointers;
  }

  const GradientEstimator& operator[](size_t e) const { return *owned_[e]; }

 private:
  std::vector<std::unique_ptr<GradientEstimator>> owned_;
};

/// sg-b, sg-2b, svrg and gc with their snapshots and clusters made, and the parameters moved on.
EstimatorSet moved_set(test::TestSource& source, const EstimatorOptions& options,
                       double distance = 0.5) {
  EstimatorSet set;
  for (const std::string name : {"sg-b", "sg-2b", "svrg", "gc"}) set.add(name, source, options);
  source.move(distance, 72);
  return set;
}

Measurement measured(GradientSource& source,
                     const std::vector<const GradientEstimator*>& estimators,
                     const MeasureOptions& options = {}, uint64_t seed = 13) {
  auto generator = test::generator_of(seed);
  return measure(source, estimators, options, generator);
}

/// Everything but the wall time, NaN as a number no moment takes.
at::Tensor numbers(const Moments& m) {
  std::vector<double> all{m.trace_covariance,
                          m.average_variance,
                          m.normalized_variance,
                          m.noise_ratio,
                          m.noise_to_signal,
                          m.mean_squared_norm,
                          m.bias_squared,
                          m.mse,
                          m.interval_low,
                          m.interval_high,
                          static_cast<double>(m.zero_coordinates)};
  all.insert(all.end(), m.layer_average_variance.begin(), m.layer_average_variance.end());
  all.push_back(static_cast<double>(m.gradient_evaluations));
  return at::tensor(all, at::kDouble).nan_to_num(-1);
}

/// Each number for itself within a relative tolerance.
::testing::AssertionResult numbers_near(const Moments& actual, const Moments& expected,
                                        double tolerance) {
  const at::Tensor exact = numbers(expected);
  const at::Tensor error = (numbers(actual) - exact).abs() - exact.abs() * tolerance;
  if (error.max().item<double>() <= 0) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << numbers(actual) << ", expected " << exact;
}

void expect_same(const Measurement& a, const Measurement& b) {
  ASSERT_EQ(a.moments.size(), b.moments.size());
  for (size_t e = 0; e < a.moments.size(); ++e) {
    EXPECT_TRUE(same_bits(numbers(a.moments[e]), numbers(b.moments[e]))) << "estimator " << e;
  }
  EXPECT_TRUE(same_bits(a.full_gradient, b.full_gradient));
  EXPECT_EQ(a.squared_gradient_norm, b.squared_gradient_norm);
  ASSERT_EQ(a.squared_norms.defined(), b.squared_norms.defined());
  if (a.squared_norms.defined()) {
    EXPECT_TRUE(same_bits(a.squared_norms, b.squared_norms));
  }
}

/// The gradients of 3,823 digits at a small network.
NetworkSource digits(int64_t hidden) {
  auto generator = test::generator_of(14);
  auto data = load_digits().train;
  auto network = std::make_shared<Mlp>(64, std::vector<int64_t>{hidden}, 10, generator);
  return NetworkSource(std::move(network), std::move(data), Loss::kCrossEntropy);
}

MeasureOptions subset_of(int64_t examples) {
  return {.mode = MeasureMode::kSubset, .examples = examples};
}

MeasureOptions sampled_with(int64_t draws, bool faghri = false) {
  return {.mode = MeasureMode::kSampled, .draws = draws, .faghri = faghri};
}

// --- exact ---------------------------------------------------------------------------------------

TEST(ExactTest, ReportsTheFullGradientNormsInDataOrderAndMeanLoss) {
  for (const std::string& name : test::problem_names()) {
    SCOPED_TRACE(name);
    const auto source = test::make_problem(name).source;
    EstimatorSet set;
    // Clusters that interleave: the pass does not visit the examples in data order.
    set.add_clustered(in_turn(source->examples(), 2), 2);
    const Measurement measurement = measured(*source, set.all());
    const at::Tensor gradients = source->oracle();
    const at::Tensor losses =
        source->gradients(at::arange(source->examples(), at::kLong)).losses.to(at::kDouble);
    EXPECT_TRUE(tensor_near(test::flatten(measurement.full_gradient), gradients.mean(0), kTolerance,
                            test::largest(gradients)));
    EXPECT_TRUE(near(measurement.squared_gradient_norm,
                     gradients.mean(0).square().sum().item<double>(), kTolerance,
                     gradients.square().sum(1).max().item<double>()));
    EXPECT_TRUE(tensor_near(measurement.squared_norms, gradients.square().sum(1), kTolerance));
    EXPECT_TRUE(near(measurement.mean_loss, losses.mean().item<double>(), kTolerance));
  }
}

TEST(ExactTest, SharingAPassChangesNoBitWhereThereAreNoClusters) {
  for (const std::string& name : test::problem_names()) {
    SCOPED_TRACE(name);
    const auto source = test::make_problem(name).source;
    EstimatorSet set;
    for (const char* estimator : {"sg-b", "sg-2b", "svrg"}) {
      set.add(estimator, *source, {.batch_size = 2});
    }
    source->move(0.5, 73);
    const Measurement together = measured(*source, set.all());
    for (size_t e = 0; e < 3; ++e) {
      const Measurement alone = measured(*source, {&set[e]});
      EXPECT_TRUE(same_bits(numbers(together.moments[e]), numbers(alone.moments[0])))
          << set[e].name();
    }
  }
}

TEST(ExactTest, SeveralClusteringsAndSnapshotsAreMeasuredAtOnce) {
  VectorSource source = quadratics();
  EstimatorSet set;
  set.add("sg-b", source, {.batch_size = 3});
  set.add("svrg", source, {.batch_size = 3});
  source.move(0.5, 74);
  set.add("svrg", source, {.batch_size = 3});
  set.add_clustered(in_turn(12, 3), 3);
  set.add_clustered(in_turn(12, 4, 3), 5);
  set.add_clustered(Clustering(at::zeros({12}, at::kLong)), 2);
  source.move(0.5, 75);
  const Measurement together = measured(source, set.all());
  for (size_t e = 0; e < set.all().size(); ++e) {
    const Measurement alone = measured(source, {&set[e]});
    EXPECT_TRUE(numbers_near(together.moments[e], alone.moments[0], kTolerance)) << e;
  }
  EXPECT_NE(together.moments[1].trace_covariance, together.moments[2].trace_covariance);
  EXPECT_NE(together.moments[3].trace_covariance, together.moments[4].trace_covariance);
}

TEST(ExactTest, SmallChunksChangeNothingButRounding) {
  VectorSource source = quadratics();
  const EstimatorSet set = moved_set(source, {.batch_size = 3});
  const Measurement whole = measured(source, set.all());
  const Measurement cut = measured(source, set.all(), {.max_memory = 1});
  for (size_t e = 0; e < set.all().size(); ++e) {
    EXPECT_TRUE(numbers_near(cut.moments[e], whole.moments[e], kTolerance)) << e;
  }
  EXPECT_TRUE(tensor_near(cut.squared_norms, whole.squared_norms, kTolerance));
}

TEST(ExactTest, SinglePrecisionAgreesWithDoublePrecision) {
  for (const std::string& name : test::problem_names()) {
    SCOPED_TRACE(name);
    std::vector<Measurement> measurements;
    for (const auto dtype : {at::kDouble, at::kFloat}) {
      const auto source = test::make_problem(name, dtype).source;
      EstimatorSet set;
      set.add("sg-b", *source, {.batch_size = 2}).add("svrg", *source, {.batch_size = 2});
      set.add_clustered(in_turn(5, 2), 2);
      source->move(0.5, 76);
      measurements.push_back(measured(*source, set.all()));
    }
    const auto& [wide, narrow] = std::tie(measurements[0], measurements[1]);
    const double scale = wide.squared_norms.max().item<double>();
    EXPECT_TRUE(tensor_near(narrow.squared_norms, wide.squared_norms, 1e-5));
    EXPECT_TRUE(tensor_near(test::flatten(narrow.full_gradient), test::flatten(wide.full_gradient),
                            1e-5, std::sqrt(scale)));
    for (size_t e = 0; e < 3; ++e) {
      EXPECT_TRUE(near(narrow.moments[e].trace_covariance, wide.moments[e].trace_covariance, 1e-5,
                       scale + wide.moments[e].trace_covariance));
      EXPECT_TRUE(near(narrow.moments[e].mean_squared_norm, wide.moments[e].mean_squared_norm, 1e-5,
                       scale + wide.moments[e].trace_covariance));
    }
  }
}

TEST(MeasureTest, LeavesTheParametersAloneAndRepeatsBitForBit) {
  for (const std::string& name : test::problem_names()) {
    SCOPED_TRACE(name);
    const auto source = test::make_problem(name).source;
    const EstimatorSet set = moved_set(*source, {.batch_size = 2});
    const ParameterList before = copy_parameters(*source);
    for (const MeasureOptions& options :
         {MeasureOptions{}, subset_of(5), sampled_with(4), sampled_with(4, true)}) {
      const Measurement once = measured(*source, set.all(), options);
      EXPECT_TRUE(same_bits(copy_parameters(*source), before));
      for (const at::Tensor& parameter : source->parameters()) {
        EXPECT_FALSE(parameter.grad().defined());
        EXPECT_TRUE(parameter.requires_grad());
      }
      expect_same(once, measured(*source, set.all(), options));
    }
  }
}

/// While it lives, torch works with another number of threads.
class Threads {
 public:
  explicit Threads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

std::vector<MeasureOptions> all_modes(int64_t examples) {
  return {{}, subset_of(examples), sampled_with(5)};
}

TEST(MeasureTest, ThreadsChangeNoBitOfSmallProblems) {
  VectorSource source = quadratics(100);
  const EstimatorSet set = moved_set(source, {.batch_size = 5});
  for (const MeasureOptions& options : all_modes(50)) {
    const Measurement one = [&] {
      const Threads threads(1);
      return measured(source, set.all(), options);
    }();
    const Threads threads(2);
    expect_same(one, measured(source, set.all(), options));
  }
}

/// Matrix products of the size of a network split their sums between the threads.
TEST(MeasureTest, ThreadsChangeOnlyRoundingOfLargeProblems) {
  NetworkSource source = digits(8);
  EstimatorSet set;
  set.add("sg-b", source, {.batch_size = 32}).add("svrg", source, {.batch_size = 32});
  set.add_clustered(in_turn(source.examples(), 32), 32);
  const ParameterList shifted = copy_parameters(source);
  for (const at::Tensor& parameter : shifted) parameter.mul_(1.1);
  const ParameterSwap swap(source, shifted);
  for (const MeasureOptions& options : all_modes(1000)) {
    const Measurement one = [&] {
      const Threads threads(1);
      return measured(source, set.all(), options);
    }();
    const Threads threads(2);
    const Measurement two = measured(source, set.all(), options);
    expect_same(two, measured(source, set.all(), options));
    for (size_t e = 0; e < set.all().size(); ++e) {
      EXPECT_TRUE(numbers_near(two.moments[e], one.moments[e], 1e-4)) << set[e].name();
    }
  }
}

TEST(MeasureTest, RefusesWhatCannotBeMeasured) {
  VectorSource source = quadratics();
  EXPECT_EQ(refusal([&] { measured(source, {}); }), "estimator: at least one is needed");
  const auto svrg = make_estimator("svrg", {.batch_size = 2}, 12);
  const auto gc = make_estimator("gc", {.batch_size = 2}, 12);
  for (const MeasureOptions& options : {MeasureOptions{}, subset_of(12), sampled_with(3)}) {
    EXPECT_EQ(refusal([&] { measured(source, {svrg.get()}, options); }),
              "svrg is measured only after its first refresh");
    EXPECT_EQ(refusal([&] { measured(source, {gc.get()}, options); }),
              "gc is measured only after its first refresh");
  }
}

// --- subset --------------------------------------------------------------------------------------

/// Sums of what passes over different subsets say.
struct PassMeans {
  at::Tensor layer_variances, full_gradient;
  double trace = 0, squared_gradient_norm = 0;
};

/// The mean over all subsets with `seen[k]` of the members of stratum k.
PassMeans mean_over_subsets(GradientSource& source, const GradientEstimator& estimator,
                            const std::vector<at::Tensor>& members,
                            const std::vector<int64_t>& seen) {
  SamplingDesign subsets{{}, /*replacement=*/false};
  std::vector<int64_t> sizes;
  for (size_t k = 0; k < members.size(); ++k) {
    subsets.strata.push_back({members[k], seen[k], 1.0});
    sizes.push_back(members[k].numel());
  }
  PassMeans means{at::zeros({static_cast<int64_t>(source.parameters().size())}, at::kDouble),
                  at::zeros({source.parameter_count()}, at::kDouble)};
  for (const test::PossibleDraw& subset : test::enumerate_draws(subsets)) {
    detail::PassPlan plan{subset.batch.indices.split_with_sizes(seen), sizes};
    plan.stratified = estimator.clustering() != nullptr ? &estimator : nullptr;
    plan.snapshot = estimator.snapshot();
    plan.exact = false;
    const detail::MomentPass pass(source, std::move(plan), 0);
    const Moments moments = pass.moments(estimator);
    const double p = subset.probability;
    means.trace += p * moments.trace_covariance;
    means.squared_gradient_norm += p * pass.squared_gradient_norm();
    means.layer_variances += p * at::tensor(moments.layer_average_variance, at::kDouble);
    means.full_gradient += p * test::flatten(pass.full_gradient());
  }
  return means;
}

void expect_unbiased(test::TestSource& source, const GradientEstimator& estimator,
                     const PassMeans& means) {
  const Measurement exact = measured(source, {&estimator});
  const Moments& moments = exact.moments.front();
  const double scale = exact.squared_norms.max().item<double>() + moments.trace_covariance;
  EXPECT_TRUE(near(means.trace, moments.trace_covariance, kTolerance, scale));
  EXPECT_TRUE(near(means.squared_gradient_norm, exact.squared_gradient_norm, kTolerance, scale));
  EXPECT_TRUE(tensor_near(means.layer_variances,
                          at::tensor(moments.layer_average_variance, at::kDouble), kTolerance,
                          scale));
  EXPECT_TRUE(tensor_near(means.full_gradient, test::flatten(exact.full_gradient), kTolerance,
                          std::sqrt(scale)));
}

TEST(SubsetTest, IsUnbiasedOverAllSubsets) {
  for (const bool replacement : {true, false}) {
    VectorSource source = quadratics(7, 4);
    const EstimatorOptions options{.batch_size = 2, .replacement = replacement};
    EstimatorSet set;
    for (const char* name : {"sg-b", "sg-2b", "svrg"}) set.add(name, source, options);
    source.move(0.2, 77);
    for (const GradientEstimator* estimator : set.all()) {
      SCOPED_TRACE(estimator->name());
      for (const int64_t seen : {2, 3, 5}) {
        expect_unbiased(source, *estimator,
                        mean_over_subsets(source, *estimator, {at::arange(7, at::kLong)}, {seen}));
      }
    }
  }
}

TEST(SubsetTest, IsUnbiasedOverAllStratifiedSubsets) {
  VectorSource source = quadratics(11, 4);
  source.move(0.2, 78);
  for (const int64_t draws : {3, 5}) {
    EstimatorSet set;
    set.add_clustered(Clustering(at::tensor({0, 2, 1, 2, 0, 2, 1, 0, 2, 1, 0}, at::kLong)), draws);
    expect_unbiased(source, set[0],
                    mean_over_subsets(source, set[0], set[0].clustering()->members(), {3, 2, 4}));
  }
}

TEST(SubsetTest, OfAllExamplesIsExact) {
  VectorSource source = quadratics();
  const EstimatorSet set = moved_set(source, {.batch_size = 3});
  for (const GradientEstimator* estimator : set.all()) {
    const Measurement subset = measured(source, {estimator}, subset_of(12));
    const Measurement exact = measured(source, {estimator});
    EXPECT_TRUE(same_bits(numbers(subset.moments[0]), numbers(exact.moments[0])));
    EXPECT_TRUE(same_bits(subset.full_gradient, exact.full_gradient));
    // A subset's norms come in no promised order.
    EXPECT_TRUE(same_bits(std::get<0>(subset.squared_norms.sort()),
                          std::get<0>(exact.squared_norms.sort())));
  }
}

TEST(SubsetTest, EstimatorsOfOneUniformPassSeeTheSameExamples) {
  VectorSource source = quadratics(40);
  EstimatorSet set;
  for (const char* name : {"sg-b", "sg-2b", "svrg"}) set.add(name, source, {.batch_size = 3});
  source.move(0.5, 79);
  const Measurement together = measured(source, set.all(), subset_of(9));
  EXPECT_EQ(together.squared_norms.numel(), 9);
  EXPECT_TRUE(std::isnan(together.mean_loss));
  for (size_t e = 0; e < 3; ++e) {
    const Measurement alone = measured(source, {&set[e]}, subset_of(9));
    EXPECT_TRUE(same_bits(numbers(together.moments[e]), numbers(alone.moments[0])));
    EXPECT_EQ(together.moments[e].gradient_evaluations, e == 2 ? 18 : 9);
  }
  EXPECT_EQ(together.moments[1].trace_covariance, together.moments[0].trace_covariance / 2);
}

TEST(SubsetTest, SmallChunksChangeOnlyTheInterval) {
  VectorSource source = quadratics(40);
  const EstimatorSet set = moved_set(source, {.batch_size = 3});
  MeasureOptions options = subset_of(20);
  const Measurement whole = measured(source, set.all(), options);
  options.max_memory = 1;
  const Measurement cut = measured(source, set.all(), options);
  for (size_t e = 0; e < set.all().size(); ++e) {
    EXPECT_TRUE(near(cut.moments[e].trace_covariance, whole.moments[e].trace_covariance, 1e-11));
    EXPECT_LT(cut.moments[e].interval_low, cut.moments[e].average_variance);
    EXPECT_GT(cut.moments[e].interval_high, cut.moments[e].average_variance);
  }
}

TEST(SubsetTest, NamesOptionValueAndRule) {
  VectorSource source = quadratics();
  EstimatorSet set;
  set.add("sg-b", source, {.batch_size = 2}).add_clustered(in_turn(12, 3), 3);
  const auto refused = [&](size_t e, int64_t n) {
    return refusal([&] { measured(source, {&set[e]}, subset_of(n)); });
  };
  EXPECT_EQ(refused(0, 2), "measure-examples = 2: must lie in [3, 12], the number of examples");
  EXPECT_EQ(refused(0, 13), "measure-examples = 13: must lie in [3, 12], the number of examples");
  EXPECT_EQ(refused(1, 11),
            "measure-examples = 11: must be >= 12, up to 4 examples of every cluster");
  EXPECT_EQ(refused(0, 3), "");
  EXPECT_EQ(refused(1, 12), "");
}

// --- sampled -------------------------------------------------------------------------------------

/// E estimates from the oracle's gradients, [E, P].
at::Tensor dense_draws(test::TestSource& source, const GradientEstimator& estimator, int64_t draws,
                       at::Generator& generator) {
  at::Tensor terms = source.oracle();
  at::Tensor control = at::zeros({terms.size(1)}, at::kDouble);
  if (estimator.snapshot() != nullptr) {
    const ParameterSwap swap(source, estimator.snapshot()->parameters);
    const at::Tensor at_snapshot = source.oracle();
    terms = terms - at_snapshot;
    control = at_snapshot.mean(0);
  }
  std::vector<at::Tensor> rows;
  for (int64_t r = 0; r < draws; ++r) {
    const WeightedBatch batch = estimator.draw(generator);
    rows.push_back(batch.weights.matmul(terms.index_select(0, batch.indices)) + control);
  }
  return at::stack(rows);
}

std::vector<double> layer_means(const GradientSource& source, const at::Tensor& per_coordinate) {
  std::vector<int64_t> widths;
  for (const at::Tensor& parameter : source.parameters()) widths.push_back(parameter.numel());
  std::vector<double> means;
  for (const at::Tensor& layer : per_coordinate.split_with_sizes(widths)) {
    means.push_back(layer.mean().item<double>());
  }
  return means;
}

void expect_layers(const Moments& moments, const std::vector<double>& expected, double scale) {
  ASSERT_EQ(moments.layer_average_variance.size(), expected.size());
  for (size_t l = 0; l < expected.size(); ++l) {
    EXPECT_TRUE(near(moments.layer_average_variance[l], expected[l], 1e-11, scale));
  }
}

/// The jackknife as a textbook has it: the statistic with each row left out in turn.
double literal_jackknife(const at::Tensor& rows) {
  const int64_t n = rows.size(0);
  std::vector<double> left_out;
  for (int64_t i = 0; i < n; ++i) {
    const at::Tensor rest = at::cat({rows.slice(0, 0, i), rows.slice(0, i + 1)});
    left_out.push_back(rest.var(0, /*unbiased=*/true).sum().item<double>());
  }
  const at::Tensor values = at::tensor(left_out, at::kDouble);
  return static_cast<double>(n - 1) / static_cast<double>(n) *
         (values - values.mean()).square().sum().item<double>();
}

TEST(SampledTest, AgreesWithADenseRecomputationFromTheSameDraws) {
  constexpr int64_t kDraws = 9;
  VectorSource source = quadratics();
  const EstimatorSet set = moved_set(source, {.batch_size = 3});
  const auto parameters = static_cast<double>(source.parameter_count());
  for (const GradientEstimator* estimator : set.all()) {
    SCOPED_TRACE(estimator->name());
    const Measurement measurement = measured(source, {estimator}, sampled_with(kDraws), 15);
    const Moments& moments = measurement.moments.front();
    auto generator = test::generator_of(15);
    const at::Tensor rows = dense_draws(source, *estimator, kDraws, generator);
    const at::Tensor variance = rows.var(0, /*unbiased=*/true);
    const at::Tensor squared_gradient =
        (rows.mean(0).square() - variance / static_cast<double>(kDraws)).clamp_min(0);
    const double trace = variance.sum().item<double>();
    const double signal = rows.mean(0).square().sum().item<double>() - trace / kDraws;
    const double scale = rows.square().sum(1).max().item<double>();

    EXPECT_TRUE(near(moments.trace_covariance, trace, kTolerance, scale));
    EXPECT_TRUE(near(moments.average_variance, trace / parameters, kTolerance, scale));
    EXPECT_TRUE(near(moments.mean_squared_norm, trace + signal, kTolerance, scale));
    EXPECT_TRUE(near(moments.noise_to_signal, trace / signal, 1e-10));
    EXPECT_TRUE(near(moments.normalized_variance,
                     (variance / (variance + squared_gradient)).mean().item<double>(), 1e-10));
    EXPECT_TRUE(near(measurement.squared_gradient_norm, signal, kTolerance, scale));
    EXPECT_TRUE(tensor_near(test::flatten(measurement.full_gradient), rows.mean(0), kTolerance,
                            std::sqrt(scale)));
    expect_layers(moments, layer_means(source, variance), scale);
    const Interval interval =
        log_interval(trace / parameters, literal_jackknife(rows) / (parameters * parameters),
                     static_cast<double>(kDraws - 1));
    EXPECT_TRUE(near(moments.interval_low, interval.low, 1e-10));
    EXPECT_TRUE(near(moments.interval_high, interval.high, 1e-10));
    EXPECT_EQ(moments.gradient_evaluations, kDraws * estimator->cost_per_draw());
  }
}

TEST(SampledTest, FollowsThePapersProtocol) {
  constexpr int64_t kDraws = 9;
  VectorSource source = quadratics();
  const EstimatorSet set = moved_set(source, {.batch_size = 3});
  for (const GradientEstimator* estimator : set.all()) {
    SCOPED_TRACE(estimator->name());
    const Moments moments =
        measured(source, {estimator}, sampled_with(kDraws, true), 16).moments.front();
    auto generator = test::generator_of(16);
    const at::Tensor other_mean = dense_draws(source, *estimator, kDraws, generator).mean(0);
    const at::Tensor rows = dense_draws(source, *estimator, kDraws, generator);
    const at::Tensor deviations = (rows - other_mean).square().sum(0);
    const double scale = rows.square().sum(1).max().item<double>();
    EXPECT_TRUE(near(moments.trace_covariance, deviations.sum().item<double>() / kDraws, kTolerance,
                     scale));
    EXPECT_TRUE(near(moments.normalized_variance,
                     (deviations / (rows.square().sum(0) + 1e-7)).mean().item<double>(), 1e-10));
    expect_layers(moments, layer_means(source, deviations / static_cast<double>(kDraws)), scale);
    EXPECT_TRUE(std::isnan(moments.interval_low) && std::isnan(moments.interval_high));
    EXPECT_EQ(moments.gradient_evaluations, 2 * kDraws * estimator->cost_per_draw());
  }
}

TEST(SampledTest, IsUnbiased) {
  constexpr int64_t kDraws = 4;
  constexpr uint64_t kSeeds = 300;
  const auto source = test::make_problem("logistic").source;
  const EstimatorSet set = moved_set(*source, {.batch_size = 2});
  for (const GradientEstimator* estimator : set.all()) {
    SCOPED_TRACE(estimator->name());
    double mean = 0;
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      mean += measured(*source, {estimator}, sampled_with(kDraws), seed)
                  .moments.front()
                  .trace_covariance /
              static_cast<double>(kSeeds);
    }
    // With e an estimate, C its covariance and q = ||e - E e||^2, the variance of
    // s^2 = sum_r ||e_r - mean||^2 / (E - 1) is Var[q] / E + 2 tr(C C) / (E (E - 1)).
    std::vector<at::Tensor> rows;
    std::vector<double> probabilities;
    for (const test::PossibleDraw& draw : test::enumerate_draws(estimator->design())) {
      rows.push_back(test::flatten(estimator->estimate(*source, draw.batch)));
      probabilities.push_back(draw.probability);
    }
    const at::Tensor p = at::tensor(probabilities, at::kDouble);
    const at::Tensor deviations = at::stack(rows) - p.matmul(at::stack(rows));
    const at::Tensor q = deviations.square().sum(1);
    const at::Tensor covariance = deviations.t().matmul(p.unsqueeze(1) * deviations);
    const double trace = p.dot(q).item<double>();
    const double variance =
        (p.dot(q.square()).item<double>() - trace * trace) / kDraws +
        2 * covariance.square().sum().item<double>() / (kDraws * (kDraws - 1.0));
    // Five standard errors of a mean of 300.
    EXPECT_TRUE(near(mean, trace, 5, std::sqrt(variance / static_cast<double>(kSeeds))));
  }
}

TEST(SampledTest, LittleMemoryChangesOnlyTheInterval) {
  VectorSource source = quadratics();
  const EstimatorSet set = moved_set(source, {.batch_size = 3});
  MeasureOptions options = sampled_with(8);
  const Measurement whole = measured(source, set.all(), options);
  options.max_memory = 1;
  const Measurement cut = measured(source, set.all(), options);
  for (size_t e = 0; e < set.all().size(); ++e) {
    EXPECT_EQ(cut.moments[e].trace_covariance, whole.moments[e].trace_covariance);
    EXPECT_EQ(cut.moments[e].normalized_variance, whole.moments[e].normalized_variance);
    EXPECT_LT(cut.moments[e].interval_low, cut.moments[e].average_variance);
    EXPECT_GT(cut.moments[e].interval_high, cut.moments[e].average_variance);
  }
}

TEST(SampledTest, NamesOptionValueAndRule) {
  VectorSource source = quadratics();
  EstimatorSet set;
  set.add("sg-b", source, {.batch_size = 2});
  EXPECT_EQ(refusal([&] { measured(source, set.all(), sampled_with(2)); }),
            "draws = 2: must be >= 3");
  EXPECT_EQ(refusal([&] { measured(source, set.all(), sampled_with(3)); }), "");
}

// --- differences from a snapshot -----------------------------------------------------------------

TEST(DifferenceFormTest, FollowsTheDistanceFromTheSnapshot) {
  using detail::choose_difference_form;
  using detail::DifferenceForm;
  for (const std::string& name : test::problem_names()) {
    SCOPED_TRACE(name);
    const auto source = test::make_problem(name).source;
    const Snapshot snapshot = take_snapshot(*source);
    EXPECT_EQ(choose_difference_form(*source, snapshot), DifferenceForm::kZero);
    source->move(1e-4, 80);
    EXPECT_EQ(choose_difference_form(*source, snapshot), DifferenceForm::kStable);
    source->move(1, 81);
    // Products of three positions have too many pairs.
    const auto far = name == "sequence" ? DifferenceForm::kStable : DifferenceForm::kExpanded;
    EXPECT_EQ(choose_difference_form(*source, snapshot), far);
  }
}

/// Sums over all examples by one form, [P] each.
struct FormSums {
  at::Tensor sum, squares;
  std::vector<double> squared_norms;
};

FormSums sums_by(detail::DifferenceForm form, test::TestSource& source, const Snapshot& snapshot) {
  const int64_t n = source.examples();
  const auto all = at::arange(n, at::kLong);
  detail::DifferenceSums sums(source.parameters(), form, n, 1.0);
  const GradientBatch batch = source.gradients(all);
  const GradientBatch at_snapshot = [&] {
    const ParameterSwap swap(source, snapshot.parameters);
    return source.gradients(all);
  }();
  sums.add(batch.slice(0, 2), at_snapshot.slice(0, 2), false);
  sums.add(batch.slice(2, n), at_snapshot.slice(2, n), true);
  ParameterList gradient_sum, gradient_squares;
  for (const FactoredGradients& gradients : batch.parameters) {
    gradient_sum.push_back(gradients.sum());
    gradient_squares.push_back(gradients.sum_squares());
  }
  return {test::flatten(sums.sum(gradient_sum, snapshot, n)),
          test::flatten(sums.squares(gradient_squares, snapshot)), sums.squared_norms()};
}

TEST(DifferenceSumsTest, BothFormsAgreeWithTheDenseDifferences) {
  using detail::DifferenceForm;
  for (const std::string& name : test::problem_names()) {
    if (name == "sequence") continue;  // never expanded, see above
    SCOPED_TRACE(name);
    const auto source = test::make_problem(name).source;
    const Snapshot snapshot = take_snapshot(*source);
    const at::Tensor before = source->oracle();
    source->move(0.5, 82);
    const at::Tensor after = source->oracle();
    const double scale = std::max(test::largest(before), test::largest(after));
    const at::Tensor differences = after - before;
    for (const auto form : {DifferenceForm::kStable, DifferenceForm::kExpanded}) {
      const FormSums sums = sums_by(form, *source, snapshot);
      EXPECT_TRUE(tensor_near(sums.sum, differences.sum(0), kTolerance, scale));
      EXPECT_TRUE(
          tensor_near(sums.squares, differences.square().sum(0), kTolerance, scale * scale));
      double squared_norm = 0;
      for (const double norm : sums.squared_norms) squared_norm += norm;
      EXPECT_TRUE(
          near(squared_norm, differences.square().sum().item<double>(), kTolerance, scale * scale));
    }
  }
}

/// Near the snapshot tr Cov is d^2 times a constant, up to a relative O(d). The expanded form would
/// have lost it in rounding of the gradients' own squares.
TEST(DifferenceSumsTest, TinyDifferencesKeepTheirDigits) {
  for (const char* name : {"linear_regression", "logistic", "sequence", "tied", "uncovered"}) {
    SCOPED_TRACE(name);
    std::vector<at::Tensor> per_squared_distance;
    for (const double distance : {1e-6, 1e-8}) {
      const auto source = test::make_problem(name).source;
      EstimatorSet set;
      set.add("svrg", *source, {.batch_size = 2});
      source->move(distance, 83);
      const Moments moments = measured(*source, set.all()).moments.front();
      per_squared_distance.push_back(at::tensor(moments.layer_average_variance, at::kDouble) /
                                     (distance * distance));
    }
    EXPECT_TRUE(tensor_near(per_squared_distance[1], per_squared_distance[0], 1e-4));
  }
}

}  // namespace
}  // namespace gradist
