// What clusters of equal size promise of one draw from each, whatever the gradients have become:
// N_k <= ceil(N / K), so sum_k N_k SSE_k <= ceil(N / K) N trCov, and with replacement the variance
// is at most ceil(N / K) K / N of that of K plain draws, trCov / K: the same where K divides N.

#include "gc/descent.h"
#include "gc/lloyd.h"
#include "gc/objective.h"
#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace gradist {
namespace {

using test::generator_of;
using test::near;
using test::normal;

constexpr int64_t kExamples = 23;  // prime: only 1 and 23 divide it

double bound(int64_t examples, int64_t clusters) {
  const auto largest = (examples + clusters - 1) / clusters;
  return static_cast<double>(largest * clusters) / static_cast<double>(examples);
}

/// Variance of one draw with replacement from each cluster, over that of as many plain draws.
double over_plain(test::TestSource& source, const Clustering& clustering) {
  const auto clusters = clustering.clusters();
  const auto exact = exact_objective(source, clustering);
  return stratified_variance(stratified_design(clustering, clusters, true), exact) /
         uniform_variance(source.examples(), clusters, true, exact.trace_covariance);
}

TEST(EqualSizes, BoundTheVarianceHoweverStaleTheyAre) {
  for (const int64_t clusters : {1, 2, 3, 5, 8, 11, 12, 17, 22, 23}) {
    test::VectorSource source(normal({kExamples, 4}, 1), normal({kExamples, 4}, 2));
    auto generator = generator_of(static_cast<uint64_t>(clusters));
    const auto by_descent =
        descent(source, {.clusters = clusters, .balanced = true}, nullptr, generator);
    const auto by_lloyd =
        lloyd(source, {.clusters = clusters, .iterations = 3, .balanced = true}, generator);
    for (uint64_t seed = 0; seed < 10; ++seed) {
      for (const auto* clustering : {&by_descent, &by_lloyd}) {
        const auto [least, most] = std::ranges::minmax(clustering->sizes());
        EXPECT_EQ(least, kExamples / clusters);
        EXPECT_EQ(most, (kExamples + clusters - 1) / clusters);
        EXPECT_LE(over_plain(source, *clustering), bound(kExamples, clusters) * (1 + 1e-12));
      }
      source.move(10, 30 + seed);
    }
  }
}

// All that differs is in one of the largest clusters: no less will do, and where K does not divide
// N even clusters of equal size are above plain draws.
TEST(EqualSizes, ReachTheBound) {
  for (const auto& [examples, clusters] : {std::pair<int64_t, int64_t>{23, 5}, {24, 5}, {24, 6}}) {
    const auto clustering = balanced_clustering(at::arange(examples, at::kLong), clusters);
    const auto sizes = clustering.sizes();
    const auto largest = std::ranges::max_element(sizes) - sizes.begin();
    const auto inside = clustering.members()[static_cast<size_t>(largest)];
    auto rows = at::zeros({examples, 3}, at::kDouble);
    const auto differing = normal({inside.numel(), 3}, 3);
    rows.index_copy_(0, inside, differing - differing.mean(0));
    test::VectorSource source(rows);
    const auto ratio = over_plain(source, clustering);
    EXPECT_TRUE(near(ratio, bound(examples, clusters), 1e-12));
    EXPECT_EQ(ratio > 1 + 1e-12, examples % clusters != 0);
  }
}

}  // namespace
}  // namespace gradist
