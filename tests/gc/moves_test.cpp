#include "gc/moves.h"

#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/threads.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>

namespace gradist {
namespace {

using test::generator_of;
using test::near;
using test::normal;

std::vector<at::Tensor> orders(int64_t examples, int64_t sweeps, uint64_t seed) {
  auto generator = generator_of(seed);
  std::vector<at::Tensor> result;
  for (int64_t s = 0; s < sweeps; ++s) {
    result.push_back(at::randperm(examples, generator, at::dtype(at::kLong)));
  }
  return result;
}

at::Tensor cyclic(int64_t examples, int64_t clusters) {
  return at::arange(examples, at::kLong).remainder(clusters);
}

/// The two ways to inner products.
enum class Kind { kRows, kGram };

std::unique_ptr<ClusterProducts> products_of(Kind kind, const at::Tensor& x, int64_t clusters) {
  if (kind == Kind::kGram) {
    const auto rows = x.to(at::kDouble);
    return products_of_gram(rows.mm(rows.t()), clusters);
  }
  return products_of_rows([x](const at::Tensor& block) { return x.index_select(0, block); },
                          clusters);
}

/// J of the rows, and what drift charges: every pair in one cluster 2 c mean ||x||^2.
double charged(const at::Tensor& x, const at::Tensor& assignments, int64_t clusters, double drift) {
  const double mean = x.square().sum(1).mean().item<double>();
  double total = test::dense_objective(x, assignments, clusters);
  for (int64_t k = 0; k < clusters; ++k) {
    const auto size = (assignments == k).sum().item<double>();
    total += drift * mean * size * (size - 1);
  }
  return total;
}

class MovesTest : public ::testing::TestWithParam<std::tuple<Kind, double>> {
 protected:
  Moved descend(const at::Tensor& x, int64_t clusters, int64_t sweeps, uint64_t seed) const {
    const auto products = products_of(kind_, x, clusters);
    return descend_by_moves(*products, cyclic(x.size(0), clusters), orders(x.size(0), sweeps, seed),
                            {.clusters = clusters, .drift = drift_});
  }

  Kind kind_ = std::get<0>(GetParam());
  double drift_ = std::get<1>(GetParam());
};

TEST_P(MovesTest, HistoryIsTheObjectiveByDefinitionAndNeverRises) {
  // More examples than a block holds, so that sums cross blocks.
  const auto x = normal({300, 6}, 1) * at::rand({300, 1}, generator_of(2), at::dtype(at::kDouble));
  const auto moved = descend(x, 9, 12, 3);
  EXPECT_TRUE(near(moved.history.front(), charged(x, cyclic(300, 9), 9, drift_), 1e-12));
  EXPECT_TRUE(near(moved.history.back(), charged(x, moved.assignments, 9, drift_), 1e-12));
  for (size_t s = 1; s < moved.history.size(); ++s) {
    EXPECT_LE(moved.history[s], moved.history[s - 1]);
  }
  EXPECT_LT(moved.history.back(), moved.history.front());
}

// J of every sweep, replayed by a descent that forms everything for every single move.
TEST_P(MovesTest, MakesTheMovesOfASlowDescent) {
  const auto x = normal({150, 4}, 4);
  constexpr int64_t kClusters = 5, kSweeps = 3;
  const auto all = orders(150, kSweeps, 5);
  auto slow = cyclic(150, kClusters);
  std::vector<double> history{charged(x, slow, kClusters, drift_)};
  for (const auto& order : all) {
    for (int64_t r = 0; r < 150; ++r) {
      const auto i = order[r].item<int64_t>();
      double least = charged(x, slow, kClusters, drift_) * (1 - 1e-13);
      auto best = slow[i].item<int64_t>();
      for (int64_t k = 0; k < kClusters; ++k) {
        auto other = slow.clone();
        other[i] = k;
        const double objective = charged(x, other, kClusters, drift_);
        if (objective < least) {
          least = objective;
          best = k;
        }
      }
      slow[i] = best;
    }
    history.push_back(charged(x, slow, kClusters, drift_));
  }
  const auto moved = descend(x, kClusters, kSweeps, 5);
  EXPECT_TRUE(at::equal(moved.assignments, slow));
  ASSERT_EQ(moved.history.size(), history.size());
  for (size_t s = 0; s < history.size(); ++s) {
    EXPECT_TRUE(near(moved.history[s], history[s], 1e-12)) << s;
  }
}

TEST_P(MovesTest, EndsWhereNoMoveLowersTheObjective) {
  const auto x = normal({40, 3}, 6);
  const auto moved = descend(x, 4, 100, 7);
  ASSERT_LT(moved.history.size(), 100U);  // it ended by itself
  const double end = charged(x, moved.assignments, 4, drift_);
  for (int64_t i = 0; i < 40; ++i) {
    for (int64_t k = 0; k < 4; ++k) {
      auto other = moved.assignments.clone();
      other[i] = k;
      EXPECT_GE(charged(x, other, 4, drift_), end * (1 - 1e-12));
    }
  }
}

// Of all K^N partitions: no start ends below the best one, some start ends at it.
TEST_P(MovesTest, FindsTheBestOfAllPartitionsOfSevenExamples) {
  const auto x = normal({7, 2}, 8);
  constexpr int64_t kClusters = 3;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t code = 0; code < 2187; ++code) {
    auto assignments = at::empty({7}, at::kLong);
    for (int64_t i = 0, rest = code; i < 7; ++i, rest /= kClusters) {
      assignments[i] = rest % kClusters;
    }
    least = std::min(least, charged(x, assignments, kClusters, drift_));
  }
  double found = std::numeric_limits<double>::infinity();
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto moved = descend(x, kClusters, 50, seed);
    EXPECT_GE(moved.history.back(), least * (1 - 1e-12));
    found = std::min(found, moved.history.back());
  }
  EXPECT_TRUE(near(found, least, 1e-12));
}

INSTANTIATE_TEST_SUITE_P(RowsAndGram, MovesTest,
                         ::testing::Combine(::testing::Values(Kind::kRows, Kind::kGram),
                                            ::testing::Values(0.0, 0.3)),
                         [](const auto& row) {
                           return std::string(std::get<0>(row.param) == Kind::kRows ? "rows"
                                                                                    : "gram") +
                                  (std::get<1>(row.param) > 0 ? "_drift" : "");
                         });

TEST(Moves, PlantedPartitionsAreFoundAndLeaveNothing) {
  const auto planted = at::arange(200, at::kLong).remainder(8);
  const auto x = normal({8, 12}, 9).index_select(0, planted);
  for (const auto kind : {Kind::kRows, Kind::kGram}) {
    const auto products = products_of(kind, x, 8);
    // A start across the planted clusters.
    const auto start = at::arange(200, at::kLong).floor_divide(25);
    const auto moved = descend_by_moves(*products, start, orders(200, 30, 10), {.clusters = 8});
    EXPECT_TRUE(near(moved.history.back(), 0, 1e-10, moved.history.front()));
  }
}

TEST(Moves, EqualRowsNeverMoveForRounding) {
  const auto x = normal({1, 5}, 11).expand({64, 5}).contiguous();
  const auto products = products_of(Kind::kRows, x, 4);
  const auto start = cyclic(64, 4);
  const auto moved = descend_by_moves(*products, start, orders(64, 5, 12), {.clusters = 4});
  EXPECT_TRUE(at::equal(moved.assignments, start));
  EXPECT_EQ(moved.history.size(), 2U);
}

// Threads divide the work in the same parts, whatever their number; float32, where order shows.
TEST(Moves, DoNotDependOnTheNumberOfThreads) {
  const auto x = normal({300, 300}, 13, at::kFloat);
  const auto descended = [&](int threads) {
    const test::Threads scope(threads);
    const auto products = products_of(Kind::kRows, x, 20);
    return descend_by_moves(*products, cyclic(300, 20), orders(300, 2, 14), {.clusters = 20});
  };
  const auto one = descended(1);
  for (const int threads : {2, 3, 4}) {
    const auto many = descended(threads);
    EXPECT_TRUE(at::equal(many.assignments, one.assignments)) << threads;
    EXPECT_EQ(many.history, one.history) << threads;
  }
}

}  // namespace
}  // namespace gradist
