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

class MovesTest : public ::testing::TestWithParam<Kind> {
 protected:
  Moved descend(const at::Tensor& x, int64_t clusters, int64_t sweeps, uint64_t seed) const {
    const auto products = products_of(GetParam(), x, clusters);
    return descend_by_moves(*products, cyclic(x.size(0), clusters), clusters,
                            orders(x.size(0), sweeps, seed));
  }
};

TEST_P(MovesTest, HistoryIsTheObjectiveByDefinitionAndNeverRises) {
  // More examples than a block holds, so that sums cross blocks.
  const auto x = normal({300, 6}, 1) * at::rand({300, 1}, generator_of(2), at::dtype(at::kDouble));
  const auto moved = descend(x, 9, 12, 3);
  EXPECT_TRUE(near(moved.history.front(), test::dense_objective(x, cyclic(300, 9), 9), 1e-12));
  EXPECT_TRUE(near(moved.history.back(), test::dense_objective(x, moved.assignments, 9), 1e-12));
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
  std::vector<double> history{test::dense_objective(x, slow, kClusters)};
  for (const auto& order : all) {
    for (int64_t r = 0; r < 150; ++r) {
      const auto i = order[r].item<int64_t>();
      double least = test::dense_objective(x, slow, kClusters) * (1 - 1e-13);
      auto best = slow[i].item<int64_t>();
      for (int64_t k = 0; k < kClusters; ++k) {
        auto other = slow.clone();
        other[i] = k;
        const double objective = test::dense_objective(x, other, kClusters);
        if (objective < least) {
          least = objective;
          best = k;
        }
      }
      slow[i] = best;
    }
    history.push_back(test::dense_objective(x, slow, kClusters));
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
  const double end = test::dense_objective(x, moved.assignments, 4);
  for (int64_t i = 0; i < 40; ++i) {
    for (int64_t k = 0; k < 4; ++k) {
      auto other = moved.assignments.clone();
      other[i] = k;
      EXPECT_GE(test::dense_objective(x, other, 4), end * (1 - 1e-12));
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
    least = std::min(least, test::dense_objective(x, assignments, kClusters));
  }
  double found = std::numeric_limits<double>::infinity();
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto moved = descend(x, kClusters, 50, seed);
    EXPECT_GE(moved.history.back(), least * (1 - 1e-12));
    found = std::min(found, moved.history.back());
  }
  EXPECT_TRUE(near(found, least, 1e-12));
}

// Exchanges, each replayed by trying all partners of the block and forming everything.
TEST_P(MovesTest, ExchangesLowerTheObjectiveAndKeepTheSizes) {
  const auto x = normal({60, 4}, 20);
  constexpr int64_t kClusters = 6, kSweeps = 2;
  const auto all = orders(60, kSweeps, 21);
  auto slow = cyclic(60, kClusters);
  std::vector<double> history{test::dense_objective(x, slow, kClusters)};
  for (const auto& order : all) {
    for (int64_t r = 0; r < 60; ++r) {
      double least = test::dense_objective(x, slow, kClusters) * (1 - 1e-12);
      auto best = slow;
      for (int64_t q = 0; q < 60; ++q) {
        const auto i = order[r].item<int64_t>(), j = order[q].item<int64_t>();
        auto other = slow.clone();
        other[i] = slow[j].item<int64_t>();
        other[j] = slow[i].item<int64_t>();
        const double objective = test::dense_objective(x, other, kClusters);
        if (objective < least) {
          least = objective;
          best = other;
        }
      }
      slow = best;
    }
    history.push_back(test::dense_objective(x, slow, kClusters));
  }
  const auto products = products_of(GetParam(), x, kClusters);
  const auto moved =
      descend_by_moves(*products, cyclic(60, kClusters), kClusters, all, /*balanced=*/true);
  EXPECT_TRUE(at::equal(moved.assignments, slow));
  EXPECT_TRUE(at::equal(at::bincount(moved.assignments), at::full({6}, 10, at::kLong)));
  ASSERT_EQ(moved.history.size(), history.size());
  for (size_t s = 0; s < history.size(); ++s) {
    EXPECT_TRUE(near(moved.history[s], history[s], 1e-12)) << s;
  }
}

TEST_P(MovesTest, ObjectiveOverRandomIsThatOfOneClusterDivided) {
  const auto assignments = cyclic(600, 4);
  const auto x = normal({600, 5}, 22) + normal({4, 5}, 23).index_select(0, assignments) + 1;
  const auto together = test::dense_objective(x, at::zeros({600}, at::kLong), 1);
  const auto expected = 4 * test::dense_objective(x, assignments, 4) / together;
  ASSERT_LT(expected, 1);
  EXPECT_TRUE(
      near(objective_over_random(*products_of(GetParam(), x, 4), assignments, 4), expected, 1e-12));
  const auto same = x.slice(0, 0, 1).expand({600, 5}).contiguous();
  EXPECT_EQ(objective_over_random(*products_of(GetParam(), same, 4), assignments, 4), 1);
}

INSTANTIATE_TEST_SUITE_P(RowsAndGram, MovesTest, ::testing::Values(Kind::kRows, Kind::kGram),
                         [](const auto& row) {
                           return std::string(row.param == Kind::kRows ? "rows" : "gram");
                         });

TEST(Moves, PlantedPartitionsAreFoundAndLeaveNothing) {
  const auto planted = at::arange(200, at::kLong).remainder(8);
  const auto x = normal({8, 12}, 9).index_select(0, planted);
  for (const auto kind : {Kind::kRows, Kind::kGram}) {
    const auto products = products_of(kind, x, 8);
    // A start across the planted clusters.
    const auto start = at::arange(200, at::kLong).floor_divide(25);
    const auto moved = descend_by_moves(*products, start, 8, orders(200, 30, 10));
    EXPECT_TRUE(near(moved.history.back(), 0, 1e-10, moved.history.front()));
  }
}

// At no cost: rounding neither scatters them again nor keeps the sweeps going.
TEST(Moves, EqualRowsGatherInOneClusterAndStay) {
  const auto x = normal({1, 5}, 11).expand({64, 5}).contiguous();
  const auto products = products_of(Kind::kRows, x, 4);
  const auto start = cyclic(64, 4);
  const auto moved = descend_by_moves(*products, start, 4, orders(64, 5, 12));
  EXPECT_TRUE(at::equal(moved.assignments, moved.assignments[0].expand({64})));
  EXPECT_EQ(moved.history, std::vector<double>(3, 0));
}

// Threads divide the work in the same parts, whatever their number; float32, where order shows.
TEST(Moves, DoNotDependOnTheNumberOfThreads) {
  const auto x = normal({300, 300}, 13, at::kFloat);
  const auto descended = [&](int threads) {
    const test::Threads scope(threads);
    const auto products = products_of(Kind::kRows, x, 20);
    return descend_by_moves(*products, cyclic(300, 20), 20, orders(300, 2, 14));
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
