#include "gc/lloyd.h"

#include "gc/kmeans_plus_plus.h"
#include "gc/objective.h"
#include "support/factors.h"
#include "support/oracles.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <utility>

namespace gradist {
namespace {

using test::generator_of;
using test::near;
using test::normal;
using test::refusal;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// Exact variances of one clustering's estimator and of SG-B, drawn alike.
struct Variances {
  double gc = 0, uniform = 0;
};

Variances variances_of(const test::TestSource& source, const Clustering& clustering,
                       const LloydOptions& options) {
  const auto G = source.oracle();
  const auto draws = options.draws > 0 ? options.draws : options.clusters;
  const auto design = stratified_design(clustering, draws, options.replacement);
  ExactObjective dense;
  for (const at::Tensor& members : clustering.members()) {
    const auto rows = G.index_select(0, members);
    const auto alone = at::zeros({rows.size(0)}, at::kLong);
    dense.scatter.push_back(rows.size(0) == 0 ? 0 : test::dense_objective(rows, alone, 1));
  }
  return {stratified_variance(design, dense),
          uniform_variance(source.examples(), draws, options.replacement,
                           test::dense_trace_covariance(G))};
}

/// Gradients of one kind, N of them.
struct Kind {
  std::string name;
  at::Tensor (*rows)(int64_t examples);
};

at::Tensor plain(int64_t examples) { return normal({examples, 3}, 1); }
at::Tensor wide(int64_t examples) { return normal({examples, 50}, 2); }
/// Lengths like 1 / u^2 for uniform u: the longest gradient carries most of the squared norm.
at::Tensor heavy_tails(int64_t examples) {
  auto generator = generator_of(3);
  const auto u = at::rand({examples, 1}, generator, at::dtype(at::kDouble));
  return normal({examples, 3}, 4) / u.square();
}
at::Tensor one_giant(int64_t examples) {
  auto rows = at::zeros({examples, 2}, at::kDouble);
  rows[examples / 2].fill_(1.0);
  return rows;
}
at::Tensor duplicates(int64_t examples) {
  return normal({4, 3}, 5).index_select(0, at::arange(examples, at::kLong).remainder(4));
}
at::Tensor all_equal(int64_t examples) { return normal({1, 3}, 6).expand({examples, 3}).clone(); }

class LloydOnKinds : public ::testing::TestWithParam<Kind> {
 protected:
  void never_above_uniform(int64_t examples, const LloydOptions& options, uint64_t seed) {
    const auto rows = GetParam().rows(examples);
    test::VectorSource source(rows);
    auto generator = generator_of(seed);
    const auto clustering = lloyd(source, options, generator);
    EXPECT_EQ(clustering.clusters(), options.clusters);
    EXPECT_EQ(clustering.history.size(), static_cast<size_t>(options.iterations));
    const auto [gc, uniform] = variances_of(source, clustering, options);
    // Where all gradients are equal both are rounding errors of their squared norms.
    const double rounding = 1e-14 * rows.square().sum(1).mean().item<double>();
    EXPECT_LE(gc, uniform * (1 + 1e-9) + rounding)
        << examples << " examples, K = " << options.clusters << ", draws = " << options.draws
        << ", replacement = " << options.replacement << ", seed = " << seed;
  }
};

// N = 23 is prime, so that no K but 1 and N divides it.
TEST_P(LloydOnKinds, IsNeverAboveSgB) {
  for (const int64_t clusters : {1, 2, 3, 5, 8, 12, 17, 22, 23}) {
    for (uint64_t seed = 0; seed < 4; ++seed) {
      never_above_uniform(23, {.clusters = clusters, .iterations = 3}, seed);
    }
  }
}

TEST_P(LloydOnKinds, IsNeverAboveSgBWithMoreDrawsThanClusters) {
  for (const auto& [clusters, draws] : {std::pair{1, 4}, {3, 7}, {4, 23}, {8, 9}, {5, 30}}) {
    for (uint64_t seed = 0; seed < 4; ++seed) {
      never_above_uniform(23, {.clusters = clusters, .iterations = 3, .draws = draws}, seed);
    }
  }
}

// Without replacement SG-B itself gains; clusters of equal size meet its variance on average, which
// asks for a K that divides N (and draws that K divides).
TEST_P(LloydOnKinds, IsNeverAboveSgBWithoutReplacement) {
  for (const auto& [clusters, draws] : {std::pair{1, 0},
                                        {2, 0},
                                        {4, 0},
                                        {6, 0},
                                        {12, 0},
                                        {24, 0},
                                        {1, 5},
                                        {4, 12},
                                        {6, 24},
                                        {3, 6}}) {
    for (uint64_t seed = 0; seed < 4; ++seed) {
      never_above_uniform(
          24, {.clusters = clusters, .iterations = 3, .draws = draws, .replacement = false}, seed);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Gradients, LloydOnKinds,
                         ::testing::Values(Kind{"plain", plain}, Kind{"wide", wide},
                                           Kind{"heavy_tails", heavy_tails},
                                           Kind{"one_giant", one_giant},
                                           Kind{"duplicates", duplicates},
                                           Kind{"all_equal", all_equal}),
                         [](const auto& tested) { return tested.param.name; });

// Where K does not divide N there may be no such partition at all: of three gradients at equal
// distances d any two in one cluster leave d^2 / 9, while two draws without replacement leave d^2
// / 12.
TEST(Lloyd, CannotAlwaysMatchSgBWithoutReplacement) {
  test::VectorSource source(at::eye(3, at::kDouble));
  const LloydOptions options{.clusters = 2, .iterations = 3, .replacement = false};
  auto generator = generator_of(1);
  const auto [gc, uniform] = variances_of(source, lloyd(source, options, generator), options);
  EXPECT_TRUE(near(gc, 2.0 / 9, 1e-12));
  EXPECT_TRUE(near(uniform, 2.0 / 12, 1e-12));
}

class LloydOnProblems : public ::testing::TestWithParam<std::string> {};

TEST_P(LloydOnProblems, IsNeverAboveSgBAndKnowsItsObjective) {
  auto problem = test::make_problem(GetParam());
  for (int64_t clusters = 1; clusters <= problem.source->examples(); ++clusters) {
    const LloydOptions options{.clusters = clusters, .iterations = 3};
    auto generator = generator_of(static_cast<uint64_t>(clusters));
    const auto clustering = lloyd(*problem.source, options, generator);
    const auto [gc, uniform] = variances_of(*problem.source, clustering, options);
    EXPECT_LE(gc, uniform * (1 + 1e-9)) << "K = " << clusters;
    const double norms = problem.source->oracle().square().sum().item<double>();
    EXPECT_TRUE(
        near(clustering.objective,
             test::dense_objective(problem.source->oracle(), clustering.assignments(), clusters),
             1e-12, 25 * norms));
  }
}

INSTANTIATE_TEST_SUITE_P(Problems, LloydOnProblems, ::testing::ValuesIn(test::problem_names()),
                         [](const auto& tested) { return tested.param; });

// ---- the steps, against a twin in which every gradient and every center is formed

/// Distances of one example to all centers, times what the A step multiplies by.
at::Tensor dense_costs(const at::Tensor& example, const at::Tensor& centers, Weighting weighting,
                       const at::Tensor& counted, const at::Tensor& others) {
  const auto distances = (centers - example).square().sum(1);
  return weighting == Weighting::kNone    ? distances
         : weighting == Weighting::kFixed ? counted * distances
                                          : (others + 1) * distances;
}

struct DenseTwin {
  std::vector<at::Tensor> assignments;  ///< after each iteration
  std::vector<double> history;
  int64_t splits = 0;
};

/// The alternation with Eqs. 3 and 4, and the rule of the split.
DenseTwin dense_lloyd(const at::Tensor& G, const LloydOptions& options, at::Generator generator) {
  const auto N = G.size(0), K = options.clusters;
  const auto shuffled = [&] { return at::randperm(N, generator, at::dtype(at::kLong)); };
  const auto seeds = G.index_select(0, shuffled().slice(0, 0, std::max<int64_t>(1024, 8 * K)));
  auto centers = seeds.slice(0, 0, K).clone();
  if (options.steps.start == Start::kPlusPlus) {
    const auto picks = kmeans_plus_plus(at::mm(seeds, seeds.t()), K, generator);
    centers = seeds.index_select(0, at::tensor(picks, at::kLong));
  }
  auto behind = at::zeros({K}, at::kDouble);
  auto assignments = at::full({N}, -1, at::kLong);
  auto distances = at::zeros({N}, at::kDouble);
  const auto sizes = [&] {
    return at::stack([&] {
      std::vector<at::Tensor> counts;
      for (int64_t k = 0; k < K; ++k) counts.push_back((assignments == k).sum().to(at::kDouble));
      return counts;
    }());
  };
  DenseTwin twin;
  const auto split = [&] {
    const auto counted = sizes();
    const auto to = counted.argmin().item<int64_t>();
    auto scatter = at::zeros({K}, at::kDouble);
    for (int64_t k = 0; k < K; ++k) {
      scatter[k] = counted[k] * distances.masked_select(assignments == k).sum();
    }
    const auto worst = scatter.argmax().item<int64_t>();
    if (counted[to].item<double>() * 16 * static_cast<double>(K) >= static_cast<double>(N)) return;
    if (worst == to) return;
    const auto members = (assignments == worst).nonzero().squeeze(1);
    const auto order = distances.index_select(0, members).argsort(/*stable=*/true, 0, false);
    const auto half = members.numel() / 2;
    ++twin.splits;
    for (const auto& [k, from, to_end] :
         {std::tuple(worst, int64_t{0}, half), {to, half, members.numel()}}) {
      const auto part = members.index_select(0, order.slice(0, from, to_end));
      assignments.index_fill_(0, part, k);
      centers[k] = G.index_select(0, part).mean(0);
      behind[k] = part.numel();
    }
  };
  for (int64_t iteration = 0; iteration < options.iterations; ++iteration) {
    const auto& steps = options.steps;
    if (iteration > 0) split();
    const double fraction = iteration == 0 ? 1 : steps.fraction;
    const auto weighting = iteration == 0 ? Weighting::kNone : steps.weighting;
    const bool in_order = fraction == 1 && steps.minibatch == 0;
    const auto visited =
        (in_order ? at::arange(N, at::kLong) : shuffled())
            .slice(0, 0, static_cast<int64_t>(std::ceil(fraction * static_cast<double>(N))));
    for (const auto& part : visited.split(steps.minibatch > 0 ? steps.minibatch : N)) {
      const auto counted = sizes();
      for (int64_t row = 0; row < part.numel(); ++row) {
        const auto i = part[row].item<int64_t>();
        assignments[i] = -1;
        const auto costs = dense_costs(G[i], centers, weighting, counted, sizes());
        assignments[i] = costs.argmin();
        distances[i] = (centers[assignments[i].item<int64_t>()] - G[i]).square().sum();
      }
      const auto joined = assignments.index_select(0, part);
      for (int64_t k = 0; k < K; ++k) {
        const auto members = G.index_select(0, part.masked_select(joined == k));
        const auto kept = steps.decay * behind[k], total = kept + members.size(0);
        if (members.size(0) > 0) centers[k] = (kept * centers[k] + members.sum(0)) / total;
        behind[k] = total;
      }
    }
    twin.assignments.push_back(assignments.clone());
    double objective = 0;
    for (int64_t k = 0; k < K; ++k) {
      const auto mine = distances.masked_select(assignments == k);
      objective += static_cast<double>(mine.numel()) * mine.sum().item<double>();
    }
    twin.history.push_back(objective);
  }
  return twin;
}

/// Beyond min(I, O) of every parameter: centers are mean gradients.
constexpr int64_t kFullRank = 100;

struct StepsCase {
  std::string name;
  LloydSteps steps;
};

class StepsOfLloyd : public ::testing::TestWithParam<StepsCase> {};

TEST_P(StepsOfLloyd, WithCentersOfFullRankAreEquations3And4) {
  auto steps = GetParam().steps;
  steps.centers = CenterKind::kSvd;
  steps.rank = kFullRank;
  auto source = test::source_of_kinds(at::arange(90, at::kLong).remainder(5), 5, 0.8, 7, 6);
  const LloydOptions options{.clusters = 5, .iterations = 6, .steps = steps};
  auto generator = generator_of(11);
  const auto clustering = lloyd(source, options, generator);
  const auto twin = dense_lloyd(source.oracle(), options, generator_of(11));
  ASSERT_EQ(clustering.history.size(), twin.history.size());
  for (size_t t = 0; t < twin.history.size(); ++t) {
    EXPECT_TRUE(near(clustering.history[t], twin.history[t], 1e-10)) << "iteration " << t;
  }
  const auto best = std::min_element(twin.history.begin(), twin.history.end());
  EXPECT_TRUE(at::equal(clustering.assignments(),
                        twin.assignments[static_cast<size_t>(best - twin.history.begin())]));
}

INSTANTIATE_TEST_SUITE_P(
    Options, StepsOfLloyd,
    ::testing::Values(
        StepsCase{"running", {}}, StepsCase{"random_start", {.start = Start::kRandom}},
        StepsCase{"fixed", {.weighting = Weighting::kFixed}},
        StepsCase{"none", {.weighting = Weighting::kNone}}, StepsCase{"a_part", {.fraction = 0.4}},
        StepsCase{"a_part_with_decay", {.fraction = 0.4, .decay = 0.5}},
        StepsCase{"decay", {.decay = 0.9}},
        StepsCase{"minibatches", {.minibatch = 25, .decay = 0.9}},
        StepsCase{"minibatches_that_forget_nothing", {.minibatch = 7, .decay = 1}},
        StepsCase{
            "minibatches_of_a_part",
            {.weighting = Weighting::kNone, .fraction = 0.5, .minibatch = 10, .decay = 0.95}}),
    [](const auto& tested) { return tested.param.name; });

// Few examples far from all others are a cluster of their own, too small to keep: it takes the far
// half of the most scattered one.
TEST(Lloyd, SplitsTheMostScatteredClusterWhereOneIsTooSmall) {
  auto rows = normal({601, 4}, 12) * at::linspace(0.2, 3, 601, at::kDouble).unsqueeze(1);
  rows.slice(0, 300, 308).fill_(100);
  test::VectorSource source(rows);
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const LloydOptions options{.clusters = 4, .iterations = 6};
    auto generator = generator_of(seed);
    const auto clustering = lloyd(source, options, generator);
    const auto twin = dense_lloyd(rows, options, generator_of(seed));
    EXPECT_GE(twin.splits, 1);
    ASSERT_EQ(clustering.history.size(), twin.history.size());
    for (size_t t = 0; t < twin.history.size(); ++t) {
      EXPECT_TRUE(near(clustering.history[t], twin.history[t], 1e-10))
          << "iteration " << t << ", seed " << seed;
    }
  }
}

// One U and A step from any partition, for problems with positions, biases and layers of every
// kind.
TEST_P(LloydOnProblems, StepsWithFullRankAreEquations4And3) {
  auto problem = test::make_problem(GetParam());
  const auto G = problem.source->oracle();
  const auto N = G.size(0);
  const int64_t K = 2;
  for (const auto weighting : {Weighting::kRunning, Weighting::kFixed, Weighting::kNone}) {
    const LloydOptions options{
        .clusters = K,
        .steps = {.centers = CenterKind::kSvd, .rank = kFullRank, .weighting = weighting}};
    const auto start = at::arange(N, at::kLong).remainder(K);
    std::vector<at::Tensor> means, counts;
    for (int64_t k = 0; k < K; ++k) {
      means.push_back(G.index({start == k}).mean(0));
      counts.push_back((start == k).sum().to(at::kDouble));
    }
    const auto centers = at::stack(means), counted = at::stack(counts);
    auto expected = start.clone();
    for (int64_t i = 0; i < N; ++i) {
      auto others = counted.clone();
      for (int64_t k = 0; k < K; ++k) {
        others[k] = (expected == k).sum() - (expected[i] == k).to(at::kLong);
      }
      expected[i] = dense_costs(G[i], centers, weighting, counted, others).argmin();
    }
    const auto stepped = lloyd_step(*problem.source, options, Clustering(start, K));
    EXPECT_TRUE(at::equal(stepped.assignments(), expected));
  }
}

TEST(Lloyd, IsNeverAboveSgBWhateverItsSteps) {
  auto source = test::source_of_kinds(at::arange(48, at::kLong).remainder(3), 6, 1.0, 5, 4);
  for (const LloydSteps& steps :
       std::vector<LloydSteps>{{.centers = CenterKind::kSvd},
                               {.centers = CenterKind::kSvd, .rank = 2, .fraction = 0.3},
                               {.centers = CenterKind::kSvd, .minibatch = 10, .decay = 0.5},
                               {.weighting = Weighting::kFixed},
                               {.weighting = Weighting::kNone, .fraction = 0.1},
                               {.fraction = 0.01},
                               {.minibatch = 1, .decay = 0.99}}) {
    for (uint64_t seed = 0; seed < 3; ++seed) {
      const LloydOptions options{.clusters = 6, .iterations = 4, .steps = steps};
      auto generator = generator_of(seed);
      const auto clustering = lloyd(source, options, generator);
      EXPECT_EQ(clustering.history.size(), 4);
      const auto [gc, uniform] = variances_of(source, clustering, options);
      EXPECT_LE(gc, uniform * (1 + 1e-9));
    }
  }
}

// Clusters by two of three parameters are those of a problem that has no third one, but J and the
// guard are of all.
TEST(Lloyd, ComparesTheChosenParametersOnly) {
  auto source = test::source_of_kinds(at::arange(60, at::kLong).remainder(4), 4, 0.3, 5, 4);
  GradientBatch some = source.gradients(at::arange(60, at::kLong));
  some.parameters.erase(some.parameters.begin() + 1);
  test::FactoredSource part(some);
  LloydOptions options{.clusters = 4, .iterations = 4};
  auto alone = generator_of(3), chosen = generator_of(3);
  const auto expected = lloyd(part, options, alone);
  options.parameters = {"!factors1"};
  const auto clustering = lloyd(source, options, chosen);
  EXPECT_EQ(clustering.history, expected.history);
  EXPECT_TRUE(at::equal(clustering.assignments(), expected.assignments()));
  EXPECT_TRUE(near(clustering.objective,
                   test::dense_objective(source.oracle(), clustering.assignments(), 4), 1e-10));
  options.parameters = {"conv*"};
  EXPECT_THAT(
      refusal([&] { lloyd(source, options, chosen); }),
      AllOf(test::is_one_line(), HasSubstr("gc-parameters = conv*"), HasSubstr("factors0")));
}

/// Whether two partitions are equal up to the names of their clusters.
bool same_partition(const at::Tensor& x, const at::Tensor& y) {
  return at::equal(x.unsqueeze(0) == x.unsqueeze(1), y.unsqueeze(0) == y.unsqueeze(1));
}

TEST(Lloyd, FindsAPlantedPartition) {
  const auto planted = at::arange(120, at::kLong).remainder(8);
  auto source = test::source_of_kinds(planted, 8, 0.01, 12, 9);
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const LloydOptions options{.clusters = 8, .iterations = 5};
    auto generator = generator_of(seed);
    const auto clustering = lloyd(source, options, generator);
    EXPECT_TRUE(same_partition(clustering.assignments(), planted)) << "seed " << seed;
    const auto [gc, uniform] = variances_of(source, clustering, options);
    EXPECT_LT(gc, 1e-3 * uniform);
  }
}

TEST(Lloyd, CopiesShareOneCluster) {
  const auto planted = at::arange(60, at::kLong).remainder(12);
  auto source = test::source_of_kinds(planted, 12, 0.0, 12, 9);
  for (uint64_t seed = 0; seed < 5; ++seed) {
    auto generator = generator_of(seed);
    const auto clustering = lloyd(source, {.clusters = 12, .iterations = 4}, generator);
    EXPECT_TRUE(same_partition(clustering.assignments(), planted)) << "seed " << seed;
    EXPECT_LE(clustering.objective, 1e-10);
  }
}

TEST(Lloyd, LowersTheVarianceWhereThereIsStructure) {
  test::VectorSource source(heavy_tails(300));
  const LloydOptions options{.clusters = 20, .iterations = 10};
  auto generator = generator_of(1);
  const auto [gc, uniform] = variances_of(source, lloyd(source, options, generator), options);
  EXPECT_LT(gc, 0.5 * uniform);
}

TEST(Lloyd, BalancedClustersHaveEqualSizes) {
  test::VectorSource source(heavy_tails(60));
  for (const auto& [clusters, draws] : {std::pair<int64_t, int64_t>{6, 0}, {6, 6}, {4, 12}}) {
    const LloydOptions options{
        .clusters = clusters, .iterations = 3, .draws = draws, .balanced = true};
    auto generator = generator_of(1);
    const auto clustering = lloyd(source, options, generator);
    EXPECT_EQ(clustering.sizes(),
              std::vector<int64_t>(static_cast<size_t>(clusters), 60 / clusters));
    const auto [gc, uniform] = variances_of(source, clustering, options);
    EXPECT_LE(gc, uniform * (1 + 1e-9));
  }
}

TEST(Lloyd, HistoryHasAnEntryAnIteration) {
  test::VectorSource source(normal({40, 3}, 7));
  for (const int64_t iterations : {1, 2, 6}) {
    auto generator = generator_of(2);
    const auto clustering = lloyd(source, {.clusters = 5, .iterations = iterations}, generator);
    EXPECT_EQ(clustering.history.size(), static_cast<size_t>(iterations));
    EXPECT_THAT(clustering.history, ::testing::Each(::testing::Gt(0)));
  }
}

TEST(Lloyd, IsTheSameForTheSameSeed) {
  test::VectorSource source(normal({80, 3}, 8));
  const auto clustered = [&](uint64_t seed) {
    auto generator = generator_of(seed);
    return lloyd(source, {.clusters = 9, .iterations = 4}, generator);
  };
  EXPECT_TRUE(at::equal(clustered(3).assignments(), clustered(3).assignments()));
  EXPECT_EQ(clustered(3).history, clustered(3).history);
  EXPECT_FALSE(at::equal(clustered(3).assignments(), clustered(4).assignments()));
}

// Small chunks only change the order in which an A step sees the sizes: none at all.
TEST(Lloyd, DoesNotDependOnTheMemory) {
  test::VectorSource source(normal({80, 3}, 9));
  const auto clustered = [&](int64_t max_memory) {
    auto generator = generator_of(3);
    return lloyd(source, {.clusters = 6, .iterations = 4, .max_memory = max_memory}, generator);
  };
  EXPECT_TRUE(at::equal(clustered(0).assignments(), clustered(4'000).assignments()));
}

/// Counts the single-example gradients asked for.
class CountingSource : public GradientSource {
 public:
  explicit CountingSource(GradientSource& source) : source_(source) {}
  int64_t examples() const override { return source_.examples(); }
  const ParameterList& parameters() const override { return source_.parameters(); }
  const std::vector<std::string>& parameter_names() const override {
    return source_.parameter_names();
  }
  GradientBatch gradients(const at::Tensor& indices) override {
    counted += indices.numel();
    return source_.gradients(indices);
  }
  ParameterList weighted_gradient(const at::Tensor& indices, const at::Tensor& weights) override {
    return source_.weighted_gradient(indices, weights);
  }

  int64_t counted = 0;

 private:
  GradientSource& source_;
};

/// Of 50 examples' factors in the problems below, too little to keep them all.
constexpr int64_t kLittle = 1'000;

// One more than it says, which tells how many examples a chunk may hold.
TEST(Lloyd, CountsEveryGradientItSpends) {
  for (const auto& rows : {normal({50, 3}, 10), heavy_tails(50), all_equal(50)}) {
    for (const int64_t memory : {int64_t{0}, kLittle}) {
      test::VectorSource source(rows);
      CountingSource counting(source);
      auto generator = generator_of(4);
      int64_t evaluations = 1000;
      const LloydOptions options{.clusters = 7, .iterations = 5, .max_memory = memory};
      lloyd(counting, options, generator, &evaluations);
      EXPECT_EQ(evaluations - 1000, counting.counted - 1);
      if (memory == 0) {
        EXPECT_EQ(evaluations - 1000, 50);
      } else {
        EXPECT_GE(evaluations - 1000, 7 * 50);  // the seeds, five passes and the guard's
      }
    }
  }
}

// Memory for chunks of 1,024 keeps no more than eight of them. Then the start sees 1,024 seeds and
// the 5 picked, the first iteration all examples; each later one two fifths, and once more where
// centers are mean gradients; the guard's pass sees all.
TEST(Lloyd, SpendsLessOnAPartOfTheExamples) {
  constexpr int64_t kExamples = 9'000, kPart = kExamples * 2 / 5;
  const auto kind_of = at::arange(kExamples, at::kLong).remainder(5);
  auto source = test::source_of_kinds(kind_of, 5, 0.3, 5, 4);
  const auto chunk = 8 * 1024 * source.gradients(at::zeros({1}, at::kLong)).bytes();
  for (const auto& [kind, passes] : {std::pair{CenterKind::kFactors, 1}, {CenterKind::kSvd, 2}}) {
    auto generator = generator_of(4);
    int64_t evaluations = 0;
    const LloydOptions options{.clusters = 5,
                               .iterations = 4,
                               .steps = {.centers = kind, .fraction = 0.4},
                               .max_memory = chunk};
    lloyd(source, options, generator, &evaluations);
    EXPECT_EQ(evaluations, 1024 + 5 + passes * (kExamples + 3 * kPart) + kExamples + 1);
  }
}

TEST(Lloyd, ErrorsNameTheOption) {
  test::VectorSource source(normal({10, 3}, 11));
  const auto refused = [&](const LloydOptions& options) {
    return refusal([&] {
      auto generator = generator_of(5);
      lloyd(source, options, generator);
    });
  };
  EXPECT_THAT(refused({.clusters = 0}),
              AllOf(test::is_one_line(), HasSubstr("clusters = 0"), HasSubstr("[1, 10]")));
  EXPECT_THAT(refused({.clusters = 11}),
              AllOf(test::is_one_line(), HasSubstr("clusters = 11"), HasSubstr("[1, 10]")));
  EXPECT_THAT(refused({.clusters = 3, .iterations = 0}),
              AllOf(test::is_one_line(), HasSubstr("gc-iterations = 0"), HasSubstr(">= 1")));
  EXPECT_THAT(refused({.clusters = 3, .steps = {.rank = 2}}),
              AllOf(test::is_one_line(), HasSubstr("gc-rank = 2"), HasSubstr("gc-centers")));
  EXPECT_THAT(refused({.clusters = 3, .steps = {.centers = CenterKind::kSvd, .rank = 0}}),
              AllOf(test::is_one_line(), HasSubstr("gc-rank = 0"), HasSubstr(">= 1")));
  for (const double fraction : {0.0, 1.5}) {
    EXPECT_THAT(refused({.clusters = 3, .steps = {.fraction = fraction}}),
                AllOf(test::is_one_line(), HasSubstr("gc-fraction = "), HasSubstr("(0, 1]")));
  }
  EXPECT_THAT(refused({.clusters = 3, .steps = {.minibatch = -1}}),
              AllOf(test::is_one_line(), HasSubstr("gc-minibatch = -1"), HasSubstr(">= 0")));
  EXPECT_THAT(refused({.clusters = 3, .steps = {.decay = 1.5}}),
              AllOf(test::is_one_line(), HasSubstr("gc-decay = 1.5"), HasSubstr("[0, 1]")));
  EXPECT_THAT(refused({.clusters = 3, .draws = 11, .replacement = false}),
              AllOf(test::is_one_line(), HasSubstr("draws = 11"), HasSubstr("10")));
  EXPECT_THAT(refused({.clusters = 3, .draws = 2}),
              AllOf(test::is_one_line(), HasSubstr("draws = 2"), HasSubstr("3")));
}

// Equal gradients end up in one cluster, which one draw would do for: the error must not depend on
// it.
TEST(Lloyd, FewerDrawsThanClustersAreRefusedWhateverTheGradients) {
  test::VectorSource source(all_equal(10));
  auto generator = generator_of(6);
  EXPECT_THAT(refusal([&] { lloyd(source, {.clusters = 3, .draws = 2}, generator); }),
              AllOf(test::is_one_line(), HasSubstr("draws = 2"), HasSubstr("3")));
}

}  // namespace
}  // namespace gradist
