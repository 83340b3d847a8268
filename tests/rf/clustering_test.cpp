#include "rf/clustering.h"

#include "rf/tiny_problem.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace gradist::rf {
namespace {

using test::TinyProblem;
using test::Vector;

/// J = sum_k N_k sum_{i in k} ||g_i - mean_k||^2, every gradient written down.
double slow_objective(const TinyProblem& tiny, const std::vector<int32_t>& assignments) {
  double total = 0;
  for (int32_t k = 0; k <= *std::max_element(assignments.begin(), assignments.end()); ++k) {
    std::vector<Vector> members;
    for (int64_t i = 0; i < tiny.examples(); ++i) {
      if (assignments[static_cast<size_t>(i)] == k) {
        members.push_back(tiny.gradient(i));
      }
    }
    Vector mean(static_cast<size_t>(tiny.problem.parameters()));
    for (const auto& g : members) {
      for (size_t j = 0; j < mean.size(); ++j) {
        mean[j] += g[j] / static_cast<double>(members.size());
      }
    }
    for (auto g : members) {
      for (size_t j = 0; j < mean.size(); ++j) {
        g[j] -= mean[j];
      }
      total += static_cast<double>(members.size()) * test::squared_norm(g);
    }
  }
  return total;
}

/// What one cluster of everything over B is: SG-B as an objective.
double bound(const TinyProblem& tiny, int64_t clusters) {
  const std::vector<int32_t> together(static_cast<size_t>(tiny.examples()));
  return slow_objective(tiny, together) / static_cast<double>(clusters);
}

Words words(uint64_t seed = 1) { return {Philox(seed, Stream::kClustering), 0}; }

TEST(Clustering, TheObjectiveIsTheSumOverWrittenOutGradients) {
  const TinyProblem tiny(23, 7, 3);
  std::vector<int32_t> assignments(23);
  for (size_t i = 0; i < assignments.size(); ++i) {
    assignments[i] = static_cast<int32_t>(i * i % 4);
  }
  const auto partition = evaluated(tiny.gradients(), assignments, 5);
  EXPECT_NEAR(partition.objective, slow_objective(tiny, assignments),
              1e-12 * slow_objective(tiny, assignments));
  EXPECT_EQ(partition.sizes.size(), 5U);
  EXPECT_EQ(partition.sizes.back(), 0);
  EXPECT_EQ(std::accumulate(partition.sizes.begin(), partition.sizes.end(), int64_t{0}), 23);
}

using Algorithm = Partition (*)(const RankOneGradients<double>&, int64_t, int64_t, Words&);

class ClusteringTest : public ::testing::TestWithParam<Algorithm> {
 protected:
  Partition cluster(const TinyProblem& tiny, int64_t clusters, int64_t steps) const {
    Words random = words();
    return GetParam()(tiny.gradients(), clusters, steps, random);
  }
};

TEST_P(ClusteringTest, IsNeverAboveSgB) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const TinyProblem tiny(40, 6, seed);
    const auto partition = cluster(tiny, 5, 8);
    EXPECT_LE(partition.objective, bound(tiny, 5)) << seed;
    EXPECT_NEAR(partition.objective, slow_objective(tiny, partition.assignments),
                1e-9 * bound(tiny, 5));
  }
}

TEST_P(ClusteringTest, TheSameRandomNumbersGiveTheSameClusters) {
  const TinyProblem tiny(40, 6, 4);
  EXPECT_EQ(cluster(tiny, 5, 8).assignments, cluster(tiny, 5, 8).assignments);
}

TEST_P(ClusteringTest, AsManyClustersAsExamplesIsExact) {
  const TinyProblem tiny(6, 3, 5);
  EXPECT_GE(cluster(tiny, 6, 10).objective, 0);
  const TinyProblem one(1, 3, 5);
  EXPECT_NEAR(cluster(one, 1, 3).objective, 0, 1e-12);
}

INSTANTIATE_TEST_SUITE_P(Algorithms, ClusteringTest,
                         ::testing::Values(&lloyd<double>, &descent<double>));

// One A step without the N_k is k-means++, which now and then lies above SG-B.
TEST(Lloyd, IsGuardedWhereItEndsAboveSgB) {
  int guarded = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const TinyProblem tiny(40, 6, seed);
    Words random = words(seed);
    const auto partition = lloyd(tiny.gradients(), 5, 1, random);
    ASSERT_EQ(partition.assignments.size(), 40U) << seed;
    EXPECT_LE(partition.objective, bound(tiny, 5)) << seed;
    EXPECT_NEAR(partition.objective, slow_objective(tiny, partition.assignments),
                1e-9 * bound(tiny, 5));
    guarded += partition.history.back() > bound(tiny, 5) ? 1 : 0;
  }
  EXPECT_GT(guarded, 0);
}

TEST(Descent, NeverRises) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    const TinyProblem tiny(60, 8, seed);
    Words random = words(seed);
    const auto partition = descent(tiny.gradients(), 7, 20, random);
    for (size_t s = 1; s < partition.history.size(); ++s) {
      EXPECT_LE(partition.history[s], partition.history[s - 1] * (1 + 1e-12)) << seed;
    }
  }
}

// What it ends at: no single move lowers J, by J itself.
TEST(Descent, EndsWhereNoMoveLowersTheObjective) {
  const TinyProblem tiny(24, 5, 2);
  Words random = words();
  const auto partition = descent(tiny.gradients(), 4, 100, random);
  for (size_t i = 0; i < 24; ++i) {
    for (int32_t k = 0; k < 4; ++k) {
      auto moved = partition.assignments;
      moved[i] = k;
      EXPECT_GE(slow_objective(tiny, moved), partition.objective * (1 - 1e-9));
    }
  }
}

// Copies of 5 points have the same gradient: 5 clusters of them have no variance at all.
TEST(Descent, FindsDuplicates) {
  TinyProblem tiny(50, 6, 8);
  for (size_t i = 0; i < 50; ++i) {
    tiny.problem.index[i] = static_cast<int32_t>(i % 5);
    tiny.problem.labels[i] = tiny.problem.labels[i % 5];
  }
  tiny.residuals = read_out(tiny.problem, tiny.readout()).residuals;
  tiny.row_norms = squared_row_norms(tiny.problem);
  Words random = words();
  const auto partition = descent(tiny.gradients(), 10, 50, random);
  EXPECT_LE(partition.objective, 1e-12 * bound(tiny, 10));
}

}  // namespace
}  // namespace gradist::rf
