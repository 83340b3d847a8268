#include "gc/allocation.h"

#include "support/property.h"
#include "support/value_error.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>

namespace gradist {
namespace {

using test::any_between;
using test::refusal;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<int64_t> proportional(const std::vector<int64_t>& sizes, int64_t draws,
                                  bool replacement) {
  return allocate(Allocation::kProportional, sizes, {}, draws, replacement);
}

RC_GTEST_PROP(ProportionalAllocation, GivesWholeDrawsInProportion, ()) {
  std::vector<int64_t> sizes(static_cast<size_t>(any_between(1, 8)));
  int64_t examples = 0, nonempty = 0;
  for (int64_t& size : sizes) {
    size = any_between(0, 12);
    examples += size;
    nonempty += size > 0 ? 1 : 0;
  }
  RC_PRE(examples > 0);
  const bool replacement = any_between(0, 1) == 1;
  const auto draws = any_between(nonempty, replacement ? 3 * examples : examples);
  const auto allocation = proportional(sizes, draws, replacement);
  RC_ASSERT(allocation.size() == sizes.size());

  int64_t total = 0;
  bool every_share_reaches_one = true;
  for (size_t k = 0; k < sizes.size(); ++k) {
    const double share = static_cast<double>(sizes[k] * draws) / static_cast<double>(examples);
    total += allocation[k];
    RC_ASSERT((allocation[k] >= 1) == (sizes[k] > 0));
    RC_ASSERT(replacement || allocation[k] <= sizes[k]);
    RC_ASSERT(allocation[k] <= 1 || static_cast<double>(allocation[k]) < share + 1);
    every_share_reaches_one = every_share_reaches_one && (sizes[k] == 0 || share >= 1);
  }
  RC_ASSERT(total == draws);
  if (!every_share_reaches_one) return;
  for (size_t k = 0; k < sizes.size(); ++k) {
    const double share = static_cast<double>(sizes[k] * draws) / static_cast<double>(examples);
    RC_ASSERT(static_cast<double>(allocation[k]) > share - 1);
  }
}

RC_GTEST_PROP(ProportionalAllocation, IsOneEachWhenDrawsAreAsManyAsClusters, ()) {
  std::vector<int64_t> sizes(static_cast<size_t>(any_between(1, 8)));
  for (int64_t& size : sizes) size = any_between(1, 100);
  const auto allocation = proportional(sizes, static_cast<int64_t>(sizes.size()), true);
  RC_ASSERT(allocation == std::vector<int64_t>(sizes.size(), 1));
}

TEST(ProportionalAllocation, KnownCases) {
  EXPECT_EQ(proportional({60, 30, 10}, 10, true), (std::vector<int64_t>{6, 3, 1}));
  EXPECT_EQ(proportional({96, 2, 2}, 10, true), (std::vector<int64_t>{8, 1, 1}));
  EXPECT_EQ(proportional({5, 0, 5}, 3, true), (std::vector<int64_t>{2, 0, 1}));
  EXPECT_EQ(proportional({4, 3, 1}, 8, false), (std::vector<int64_t>{4, 3, 1}));
}

TEST(ProportionalAllocation, RefusesDrawsThatCannotBeMade) {
  EXPECT_THAT(refusal([] {
                proportional({3, 0, 2}, 1, true);
              }),
              AllOf(test::is_one_line(), HasSubstr("draws = 1"), HasSubstr("2")));
  EXPECT_THAT(refusal([] {
                proportional({3, 2}, 6, false);
              }),
              AllOf(test::is_one_line(), HasSubstr("draws = 6"), HasSubstr("5")));
}

/// Calls `visit` with all whole b_k >= 1 of the given sum, at most `sizes` without replacement.
void for_all_allocations(const std::vector<int64_t>& sizes, int64_t draws, bool replacement,
                         const std::function<void(const std::vector<int64_t>&)>& visit) {
  std::vector<int64_t> allocation;
  const std::function<void(int64_t)> extend = [&](int64_t rest) {
    const auto k = allocation.size();
    if (k == sizes.size()) {
      if (rest == 0) visit(allocation);
      return;
    }
    const int64_t most = replacement ? rest : std::min(rest, sizes[k]);
    for (int64_t b = 1; b <= most; ++b) {
      allocation.push_back(b);
      extend(rest - b);
      allocation.pop_back();
    }
  };
  extend(draws);
}

double variance(const std::vector<int64_t>& sizes, const std::vector<double>& scatter,
                const std::vector<int64_t>& allocation, bool replacement) {
  double total = 0;
  for (size_t k = 0; k < sizes.size(); ++k) {
    const auto n = static_cast<double>(sizes[k]), b = static_cast<double>(allocation[k]);
    total += scatter[k] / b * (replacement || b == 1 ? 1 : (n - b) / (n - 1));
  }
  return total;
}

// No whole numbers do better: all of them are tried.
RC_GTEST_PROP(NeymanAllocation, IsTheBestOfAllWholeNumbers, ()) {
  const bool replacement = any_between(0, 1) == 1;
  std::vector<int64_t> sizes(static_cast<size_t>(any_between(1, 4)));
  std::vector<double> scatter;
  for (auto& size : sizes) {
    size = any_between(1, 6);
    scatter.push_back(size == 1 ? 0 : static_cast<double>(any_between(0, 50)));
  }
  const auto clusters = static_cast<int64_t>(sizes.size());
  const auto examples = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  const auto draws = any_between(clusters, replacement ? clusters + 6 : examples);
  const auto found = allocate(Allocation::kNeyman, sizes, scatter, draws, replacement);
  double least = std::numeric_limits<double>::infinity();
  for_all_allocations(sizes, draws, replacement, [&](const std::vector<int64_t>& other) {
    least = std::min(least, variance(sizes, scatter, other, replacement));
  });
  RC_ASSERT(std::accumulate(found.begin(), found.end(), int64_t{0}) == draws);
  RC_ASSERT(variance(sizes, scatter, found, replacement) <= least * (1 + 1e-12));
}

TEST(EqualAllocation, DiffersByOneWhereSizesAllowIt) {
  const auto equal = [](const std::vector<int64_t>& sizes, int64_t draws, bool replacement) {
    return allocate(Allocation::kEqual, sizes, {}, draws, replacement);
  };
  EXPECT_EQ(equal({60, 30, 10}, 10, true), (std::vector<int64_t>{4, 3, 3}));
  EXPECT_EQ(equal({60, 0, 10}, 6, true), (std::vector<int64_t>{3, 0, 3}));
  EXPECT_EQ(equal({60, 1, 10}, 9, false), (std::vector<int64_t>{4, 1, 4}));
}

TEST(NeymanAllocation, NeedsTheVariancesWithinClusters) {
  EXPECT_THAT(refusal([] {
                allocate(Allocation::kNeyman, {3, 2}, {}, 3, true);
              }),
              AllOf(test::is_one_line(), HasSubstr("allocation = neyman")));
}

TEST(AllocationNames, AreReadBack) {
  for (size_t a = 0; a < allocation_names().size(); ++a) {
    EXPECT_EQ(allocation_by_name(allocation_names()[a]), static_cast<Allocation>(a));
  }
  EXPECT_THAT(refusal([] { allocation_by_name("fair"); }),
              AllOf(test::is_one_line(), HasSubstr("allocation = fair"), HasSubstr("neyman")));
}

}  // namespace
}  // namespace gradist
