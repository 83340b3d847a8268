#include "gc/descent.h"

#include "gc/objective.h"
#include "support/factors.h"
#include "support/oracles.h"
#include "support/tensor_near.h"
#include "support/threads.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

namespace gradist {
namespace {

using test::generator_of;
using test::near;
using test::normal;
using test::refusal;
using ::testing::AllOf;
using ::testing::HasSubstr;

Clustering clustered(GradientSource& source, const DescentOptions& options, uint64_t seed,
                     const Clustering* former = nullptr, int64_t* evaluations = nullptr) {
  const test::Threads one(1);  // small products; their division is tested in moves_test.cpp
  auto generator = generator_of(seed);
  return descent(source, options, former, generator, evaluations);
}

double exact(const test::TestSource& source, const Clustering& clustering) {
  return test::dense_objective(source.oracle(), clustering.assignments(), clustering.clusters());
}

class DescentOnProblems : public ::testing::TestWithParam<std::string> {};

TEST_P(DescentOnProblems, IsNeverAboveSgBAndKnowsItsObjective) {
  auto problem = test::make_problem(GetParam());
  auto& source = *problem.source;
  const auto G = source.oracle();
  const double trace = test::dense_trace_covariance(G);
  const auto examples = source.examples();
  for (int64_t clusters = 1; clusters <= examples; ++clusters) {
    const auto result = clustered(source, {.clusters = clusters}, static_cast<uint64_t>(clusters));
    const double scale = 25 * G.square().sum().item<double>();
    EXPECT_TRUE(near(result.objective, exact(source, result), 1e-12, scale));
    EXPECT_LE(result.objective / static_cast<double>(examples * examples),
              trace / static_cast<double>(clusters) + 1e-12 * scale);
    // Few examples: the moves see the gradients themselves.
    EXPECT_TRUE(near(result.history.back(), exact(source, result), 1e-10, scale));
  }
}

// Memory for no inner products, so that few examples are sketched too.
TEST_P(DescentOnProblems, SketchesAreOfAnyWidth) {
  auto problem = test::make_problem(GetParam());
  auto& source = *problem.source;
  const double scale = 25 * source.oracle().square().sum().item<double>();
  for (const int64_t side : {1, 2, 3, 64}) {
    const auto result = clustered(source, {.clusters = 2, .sketch = side, .max_memory = 64}, 1);
    EXPECT_TRUE(near(result.objective, exact(source, result), 1e-12, scale));
    EXPECT_TRUE(std::ranges::is_sorted(result.history, std::greater<>()));
    if (side == 64) {  // wider than any side: the gradients themselves
      EXPECT_TRUE(near(result.history.back(), exact(source, result), 1e-10, scale));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Problems, DescentOnProblems, ::testing::ValuesIn(test::problem_names()),
                         [](const auto& tested) { return tested.param; });

/// Layers wider than a sketch.
test::FactoredSource source_of_kinds(const at::Tensor& kind_of, int64_t kinds, double noise) {
  return test::source_of_kinds(kind_of, kinds, noise, 30, 20);
}

/// More examples than all inner products are formed of.
constexpr int64_t kMany = 4200;

// Single moves end in local minima, where two kinds may share a cluster while another is split.
// More clusters than kinds leave room for all.
TEST(Descent, CopiesShareClustersAndLeaveNothing) {
  const auto kind_of = at::arange(kMany, at::kLong).remainder(10);
  auto source = source_of_kinds(kind_of, 10, 0);
  const auto result = clustered(source, {.clusters = 20, .sweeps = 20}, 1);
  const double apart =
      uniform_variance(kMany, 20, true, test::dense_trace_covariance(source.oracle())) * kMany *
      kMany;
  EXPECT_LE(result.objective, 1e-12 * apart);
  for (const auto& members : result.members()) {
    if (members.numel() > 0) {
      const auto kinds = kind_of.index_select(0, members);
      EXPECT_EQ(kinds.min().item<int64_t>(), kinds.max().item<int64_t>());
    }
  }
}

TEST(Descent, FindsPlantedClustersFromSketches) {
  const auto kind_of = at::arange(kMany, at::kLong).remainder(6);
  auto source = source_of_kinds(kind_of, 6, 0.01);
  const auto result = clustered(source, {.clusters = 12, .sweeps = 20}, 2);
  const double planted = test::dense_objective(source.oracle(), kind_of, 6);
  // Twelve clusters may split the six planted ones, never join two.
  EXPECT_LE(result.objective, planted * (1 + 1e-12));
}

TEST(Descent, HistoryNeverRisesAndAWarmStartBeginsWhereTheFormerEnded) {
  for (const int64_t examples : {int64_t{400}, kMany}) {
    auto source = source_of_kinds(at::arange(examples, at::kLong).remainder(50), 50, 1.0);
    const auto first = clustered(source, {.clusters = 16, .sweeps = 5}, 3);
    const auto second = clustered(source, {.clusters = 16, .sweeps = 5}, 4, &first);
    for (const auto* result : {&first, &second}) {
      EXPECT_TRUE(near(result->objective, exact(source, *result), 1e-12));
      for (size_t s = 1; s < result->history.size(); ++s) {
        EXPECT_LE(result->history[s], result->history[s - 1]);
      }
    }
    // Few examples: no sketch stands between the two.
    if (examples < kMany) {
      EXPECT_TRUE(near(second.history.front(), first.objective, 1e-10));
      EXPECT_LE(second.objective, first.objective);
    }
  }
}

TEST(Descent, MakesSketchesAnewWhereTheyDoNotFitAndFindsTheSame) {
  auto source = source_of_kinds(at::arange(kMany, at::kLong).remainder(50), 50, 1.0);
  int64_t kept = 0, anew = 0;
  const auto in_memory = clustered(source, {.clusters = 16, .sweeps = 3}, 5, nullptr, &kept);
  const auto streamed = clustered(
      source, {.clusters = 16, .sweeps = 3, .max_memory = int64_t{1} << 21}, 5, nullptr, &anew);
  EXPECT_TRUE(at::equal(in_memory.assignments(), streamed.assignments()));
  EXPECT_LE(kept, 2 * kMany + 2);
  EXPECT_GE(anew, 5 * kMany);
}

/// J of the sums y_i + S z_i for each choice of signs S.
std::vector<double> objectives_by_signs(const at::Tensor& y, const at::Tensor& z,
                                        const Clustering& clusters) {
  std::vector<double> result;
  for (int64_t code = 0; code < int64_t{1} << y.size(1); ++code) {
    const auto shifted = at::full({y.size(1)}, code, at::kLong)
                             .bitwise_right_shift(at::arange(y.size(1), at::kLong));
    const auto signs = (shifted.bitwise_and(1) * 2 - 1).to(y.scalar_type());
    result.push_back(
        test::dense_objective(y + z * signs, clusters.assignments(), clusters.clusters()));
  }
  return result;
}

// With a memory, history is J + w (1 - r)^4 J~ of the clusters it ends at: now, and where the
// memory was filled. Of sketches it is that of a sum with random signs, which has it as its mean.
TEST(Descent, LowersTheObjectivesOfNowAndOfTheFormerRefresh) {
  for (const int64_t examples : {int64_t{60}, kMany}) {
    const test::Threads one(1);
    test::VectorSource source(normal({examples, 6}, 14), normal({examples, 6}, 15));
    const auto former_rows = source.oracle();
    DescentMemory memory;
    auto generator = generator_of(16);
    const DescentOptions options{.clusters = 5, .sweeps = 6, .memory = 140};
    const auto first = descent(source, options, nullptr, generator, nullptr, &memory);
    EXPECT_TRUE(near(first.history.back(), exact(source, first), 1e-10));
    source.move(0.5, 17);
    const auto all = at::zeros({examples}, at::kLong);
    const auto r = exact(source, first) / (test::dense_objective(source.oracle(), all, 1) / 5);
    ASSERT_GT(r, 0.05);
    ASSERT_LT(r, 0.95);
    const auto second = descent(source, options, &first, generator, nullptr, &memory);
    const auto former = test::dense_objective(former_rows, second.assignments(), second.clusters());
    const auto weight = 140 * std::pow(1 - r, 4);
    ASSERT_GT(weight, 0.1);  // less is left out
    const auto both = exact(source, second) + weight * former;
    if (examples == kMany) {
      // Six numbers a gradient: sketches are the gradients.
      const auto sums =
          objectives_by_signs(source.oracle(), former_rows * std::sqrt(weight), second);
      EXPECT_TRUE(std::ranges::any_of(
          sums, [&](double each) { return bool(near(second.history.back(), each, 1e-10)); }));
      const auto count = static_cast<double>(sums.size());
      EXPECT_TRUE(near(std::accumulate(sums.begin(), sums.end(), 0.0) / count, both, 1e-10));
    } else {
      EXPECT_TRUE(near(second.history.back(), both, 1e-10));
    }
    EXPECT_TRUE(near(second.objective, exact(source, second), 1e-12));
  }
}

// Clusters of gradients that have nothing in common with the present ones.
TEST(Descent, ForgetsWhatIsWorthNothing) {
  const auto places = at::arange(kMany, at::kLong);
  auto before = source_of_kinds(places.remainder(6), 6, 0.01);
  auto now = source_of_kinds(places.floor_divide(kMany / 7), 7, 0.01);
  DescentMemory memory;
  auto generator = generator_of(16);
  const test::Threads one(1);
  const DescentOptions options{.clusters = 12, .sweeps = 20};
  const auto first = descent(before, options, nullptr, generator, nullptr, &memory);
  auto again = generator_of(17);
  const auto second = descent(now, options, &first, again, nullptr, &memory);
  again = generator_of(17);
  const auto without = descent(now, options, &first, again);
  EXPECT_TRUE(at::equal(second.assignments(), without.assignments()));
}

// Whatever becomes of the gradients: the bound holds for equal sizes alone.
TEST(Descent, BalancedClustersAreNeverAboveSgBHoweverStale) {
  test::VectorSource source(normal({120, 4}, 18), normal({120, 4}, 19));
  const DescentOptions options{.clusters = 8, .balanced = true};
  const auto first = clustered(source, options, 1);
  const auto second = clustered(source, options, 2, &first);
  for (const auto* result : {&first, &second}) {
    EXPECT_EQ(result->sizes(), std::vector<int64_t>(8, 15));
  }
  EXPECT_LE(second.objective, first.objective * (1 + 1e-12));
  const Clustering uneven(at::arange(120, at::kLong).square().remainder(8), 8);
  EXPECT_EQ(clustered(source, options, 3, &uneven).sizes(), first.sizes());
  for (uint64_t seed = 0; seed < 5; ++seed) {
    source.move(10, 30 + seed);
    const double bound = test::dense_trace_covariance(source.oracle()) / 8;
    EXPECT_LE(exact(source, second) / (120 * 120), bound * (1 + 1e-12));
  }
}

TEST(Descent, IsTheSameForTheSameSeed) {
  auto source = source_of_kinds(at::arange(300, at::kLong).remainder(50), 50, 1.0);
  const DescentOptions options{.clusters = 16, .sweeps = 4};
  EXPECT_TRUE(at::equal(clustered(source, options, 6).assignments(),
                        clustered(source, options, 6).assignments()));
  EXPECT_FALSE(at::equal(clustered(source, options, 6).assignments(),
                         clustered(source, options, 7).assignments()));
}

// Sketches of two widths have no sum. The memory has room for two sets of them, not for the inner
// products.
TEST(Descent, RemembersSketchesOfTheSameWidthOnly) {
  auto source = source_of_kinds(at::arange(200, at::kLong).remainder(5), 5, 0.01);
  DescentMemory memory;
  auto generator = generator_of(9);
  DescentOptions options{.clusters = 10, .sweeps = 3, .sketch = 6, .max_memory = 300'000};
  const auto first = descent(source, options, nullptr, generator, nullptr, &memory);
  options.sketch = 4;
  EXPECT_THAT(
      refusal([&] { descent(source, options, &first, generator, nullptr, &memory); }),
      AllOf(test::is_one_line(), HasSubstr("gc-sketch = 4"), HasSubstr("the former clusters")));
}

TEST(Descent, ErrorsNameTheOption) {
  test::VectorSource source(normal({10, 3}, 11));
  const auto refused = [&](const DescentOptions& options, const Clustering* former = nullptr) {
    return refusal([&] { clustered(source, options, 8, former); });
  };
  EXPECT_THAT(refused({.clusters = 0}),
              AllOf(test::is_one_line(), HasSubstr("clusters = 0"), HasSubstr("[1, 10]")));
  EXPECT_THAT(refused({.clusters = 3, .sweeps = 0}),
              AllOf(test::is_one_line(), HasSubstr("gc-iterations = 0"), HasSubstr(">= 1")));
  EXPECT_THAT(refused({.clusters = 3, .draws = 2}),
              AllOf(test::is_one_line(), HasSubstr("draws = 2"), HasSubstr("3")));
  EXPECT_THAT(refused({.clusters = 3, .sketch = 0}),
              AllOf(test::is_one_line(), HasSubstr("gc-sketch = 0"), HasSubstr(">= 1")));
  const Clustering wrong(at::arange(9, at::kLong));
  EXPECT_THAT(refused({.clusters = 9}, &wrong),
              AllOf(test::is_one_line(), HasSubstr("former clusters"), HasSubstr("10 examples")));
}

}  // namespace
}  // namespace gradist
