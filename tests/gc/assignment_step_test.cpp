#include "gc/assignment_step.h"

#include "support/value_error.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int64_t> numbers(const at::Tensor& tensor) {
  return {tensor.data_ptr<int64_t>(), tensor.data_ptr<int64_t>() + tensor.numel()};
}

/// Five examples in clusters of 3, 2 and 0, before an A step.
AssignedExamples five() {
  return AssignedExamples(Clustering(at::tensor({0, 0, 0, 1, 1}, at::kLong), 3));
}

const at::Tensor kAll = at::arange(5, at::kLong);

// Squared distances to the three centers.
const at::Tensor kDistances =
    at::tensor({1.0, 2.0, 9.0, 4.0, 3.0, 9.0, 4.0, 5.0, 9.0, 6.0, 4.0, 9.0, 1.0, 3.0, 3.5},
               at::kDouble)
        .view({5, 3});

TEST(AssignmentStep, WithoutSizesTakesTheNearest) {
  auto state = five();
  state.reassign(kAll, kDistances, Weighting::kNone, state.sizes);
  EXPECT_THAT(numbers(state.assignments), ElementsAre(0, 1, 0, 1, 0));
  EXPECT_THAT(state.sizes, ElementsAre(3, 2, 0));
  EXPECT_THAT(state.sse(), ElementsAre(6.0, 7.0, 0.0));
  EXPECT_EQ(state.objective(), 3 * 6.0 + 2 * 7.0);
  EXPECT_EQ(state.most_scattered(), 0);
}

// As printed: 3, 2 and 0 all along, so that the empty cluster costs nothing and takes all.
TEST(AssignmentStep, WithSizesAsCountedCollapsesIntoTheEmptyCluster) {
  auto state = five();
  const auto counted = state.sizes;
  state.reassign(kAll, kDistances, Weighting::kFixed, counted);
  EXPECT_THAT(numbers(state.assignments), ElementsAre(2, 2, 2, 2, 2));
  state = five();
  state.reassign(kAll, kDistances, Weighting::kFixed, {3, 2, 2});
  // 3, 4, 18 | 12, 6, 18 | 12, 10, 18 | 18, 8, 18 | 3, 6, 7
  EXPECT_THAT(numbers(state.assignments), ElementsAre(0, 1, 1, 1, 0));
}

// Sizes without the example, plus one: (3, 3, 1), ...
TEST(AssignmentStep, WithRunningSizesFollowsTheMoves) {
  auto state = five();
  state.reassign(kAll, kDistances, Weighting::kRunning, {});
  // 3 2 0: 3, 6, 9 -> 0 | 3 2 0: 12, 9, 9 -> 1, the first of equal ones | 2 3 0: 8, 20, 9 -> 0
  // 2 3 0: 18, 12, 9 -> 2 | 2 2 1: 3, 6, 7 -> 0
  EXPECT_THAT(numbers(state.assignments), ElementsAre(0, 1, 0, 2, 0));
  EXPECT_THAT(state.sizes, ElementsAre(3, 1, 1));
}

TEST(AssignmentStep, LeavesExamplesThatAreNotVisited) {
  auto state = five();
  state.reassign(at::tensor({4, 1}, at::kLong),
                 kDistances.index_select(0, at::tensor({4, 1}, at::kLong)), Weighting::kNone, {});
  EXPECT_THAT(numbers(state.assignments), ElementsAre(0, 1, 0, 1, 0));
  EXPECT_THAT(state.sizes, ElementsAre(3, 2, 0));
  EXPECT_THAT(state.sse(), ElementsAre(1.0, 3.0, 0.0));  // of those that were seen
}

TEST(AssignmentStep, CountsExamplesFromTheirFirstOneOn) {
  AssignedExamples state(5, 3);
  EXPECT_THAT(state.sizes, ElementsAre(0, 0, 0));
  state.reassign(kAll.slice(0, 0, 2), kDistances.slice(0, 0, 2), Weighting::kNone, {});
  EXPECT_THAT(state.sizes, ElementsAre(1, 1, 0));
  EXPECT_THAT(numbers(state.assignments), ElementsAre(0, 1, -1, -1, -1));
}

TEST(Weighting, HasNames) {
  EXPECT_EQ(weighting_by_name("running"), Weighting::kRunning);
  EXPECT_EQ(weighting_by_name("fixed"), Weighting::kFixed);
  EXPECT_EQ(weighting_by_name("none"), Weighting::kNone);
  EXPECT_THAT(test::refusal([] { weighting_by_name("some"); }),
              ::testing::AllOf(test::is_one_line(), HasSubstr("gc-weighting = some"),
                               HasSubstr("running, fixed, none")));
}

}  // namespace
}  // namespace gradist
