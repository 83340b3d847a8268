#include "gc/guard.h"

#include "gc/objective.h"
#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using test::generator_of;
using test::near;
using test::normal;

/// No step at all.
Clustering stay(const Clustering& clustering) { return clustering; }

/// 0 .. K - 2 alone, everybody else in the last cluster.
Clustering collapsed(int64_t examples, int64_t clusters) {
  return Clustering(at::arange(examples, at::kLong).clamp_max(clusters - 1), clusters);
}

double variance_of(GradientSource& source, const Clustering& clustering,
                   const GuardOptions& options) {
  const auto draws = options.draws > 0 ? options.draws : clustering.clusters();
  return stratified_variance(stratified_design(clustering, draws, options.replacement),
                             exact_objective(source, clustering));
}

double bound_of(GradientSource& source, const Clustering& clustering, const GuardOptions& options) {
  const auto draws = options.draws > 0 ? options.draws : clustering.clusters();
  return uniform_variance(
      source.examples(), draws, options.replacement,
      test::dense_trace_covariance(dynamic_cast<const test::TestSource&>(source).oracle()));
}

TEST(Guard, ReplacesABadClustering) {
  test::VectorSource source(normal({60, 4}, 1));
  for (const GuardOptions& options :
       {GuardOptions{}, GuardOptions{.replacement = false}, GuardOptions{.draws = 12},
        GuardOptions{.draws = 12, .replacement = false}}) {
    auto candidate = collapsed(60, 10);
    ASSERT_GT(variance_of(source, candidate, options), 1.5 * bound_of(source, candidate, options));
    auto generator = generator_of(2);
    const auto guarded_one = guarded(source, candidate, options, stay, generator);
    EXPECT_LE(variance_of(source, guarded_one, options),
              (1 + 1e-12) * bound_of(source, guarded_one, options));
    EXPECT_EQ(guarded_one.clusters(), 10);
    EXPECT_TRUE(near(guarded_one.objective,
                     test::dense_objective(source.oracle(), guarded_one.assignments(), 10), 1e-10));
  }
}

TEST(Guard, KeepsAGoodClusteringAndItsHistory) {
  const auto places = at::arange(60, at::kLong).remainder(6);
  test::VectorSource source(normal({6, 4}, 3).index_select(0, places));
  Clustering candidate(places);
  candidate.history = {3, 2, 1};
  auto generator = generator_of(4);
  bool stepped = false;
  const auto step = [&](const Clustering& clustering) {
    stepped = true;
    return clustering;
  };
  const auto kept = guarded(source, candidate, {}, step, generator);
  EXPECT_TRUE(at::equal(kept.assignments(), places));
  EXPECT_EQ(kept.history, candidate.history);
  EXPECT_FALSE(stepped);
}

TEST(Guard, KeepsTheHistoryOfTheReplacedClustering) {
  test::VectorSource source(normal({30, 4}, 5));
  auto candidate = collapsed(30, 5);
  candidate.history = {4, 5};
  auto generator = generator_of(6);
  EXPECT_EQ(guarded(source, candidate, {}, stay, generator).history, candidate.history);
}

// A step to the planted clusters lowers the variance of whatever the guard cut, and is taken; the
// next one lowers nothing and ends the search.
TEST(Guard, TakesStepsAsLongAsTheyLowerTheVariance) {
  const auto planted = at::arange(40, at::kLong).remainder(4);
  test::VectorSource source(10 * at::eye(4, at::kDouble).index_select(0, planted) +
                            normal({40, 4}, 7) / 10);
  const auto towards_planted = [&](const Clustering& from) {
    return Clustering(planted, from.clusters());
  };
  auto generator = generator_of(8);
  const auto stepped = guarded(source, collapsed(40, 4), {}, towards_planted, generator);
  EXPECT_TRUE(at::equal(stepped.assignments(), planted));

  // Steps that raise it are not.
  const auto worse = [&](const Clustering&) { return collapsed(40, 4); };
  const auto kept = guarded(source, collapsed(40, 4), {}, worse, generator);
  EXPECT_LE(variance_of(source, kept, {}), bound_of(source, kept, {}) * (1 + 1e-12));
}

}  // namespace
}  // namespace gradist
