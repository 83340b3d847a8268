#include "gc/clustering.h"

#include "gc/allocation.h"

#include "support/problems.h"
#include "support/property.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace gradist {
namespace {

using test::any_between;
using test::refusal;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Clustering, KnowsSizesAndMembers) {
  const Clustering clustering(at::tensor({2, 0, 2, 2, 0}, at::kInt), 4);
  EXPECT_EQ(clustering.examples(), 5);
  EXPECT_EQ(clustering.clusters(), 4);
  EXPECT_THAT(clustering.sizes(), ElementsAre(2, 0, 3, 0));
  ASSERT_EQ(clustering.members().size(), 4);
  EXPECT_TRUE(at::equal(clustering.members()[0], at::tensor({1, 4}, at::kLong)));
  EXPECT_TRUE(at::equal(clustering.members()[2], at::tensor({0, 2, 3}, at::kLong)));
  EXPECT_EQ(clustering.members()[1].numel(), 0);
  EXPECT_TRUE(at::equal(clustering.assignments(), at::tensor({2, 0, 2, 2, 0}, at::kLong)));
}

TEST(Clustering, CountsItsClustersItself) {
  EXPECT_EQ(Clustering(at::tensor({0, 2, 0}, at::kLong)).clusters(), 3);
  EXPECT_EQ(Clustering().examples(), 0);
  EXPECT_EQ(Clustering().clusters(), 0);
}

TEST(Clustering, KeepsAssignmentsOfItsOwn) {
  auto assignments = at::tensor({0, 1, 0}, at::kLong);
  const Clustering clustering(assignments);
  assignments.fill_(1);
  EXPECT_TRUE(at::equal(clustering.assignments(), at::tensor({0, 1, 0}, at::kLong)));
}

TEST(Clustering, ErrorsNameTheValue) {
  const auto refused = [](const at::Tensor& assignments, int64_t clusters = 0) {
    return refusal([&] { Clustering(assignments, clusters); });
  };
  EXPECT_THAT(refused(at::tensor({0, 3, 1}, at::kLong), 3),
              AllOf(test::is_one_line(), HasSubstr("[0, 3)"), HasSubstr("found 3")));
  EXPECT_THAT(refused(at::tensor({0, -2, 1}, at::kLong), 3),
              AllOf(test::is_one_line(), HasSubstr("[0, 3)"), HasSubstr("found -2")));
  EXPECT_THAT(refused(at::tensor({0, 1}, at::kLong), 3),
              AllOf(test::is_one_line(), HasSubstr("clusters = 3"), HasSubstr("2")));
  EXPECT_THAT(refused(at::tensor({0.0, 1.0}, at::kDouble)),
              AllOf(test::is_one_line(), HasSubstr("Double")));
  EXPECT_THAT(refused(at::ones({2}, at::kBool)), AllOf(test::is_one_line(), HasSubstr("Bool")));
  EXPECT_THAT(refused(at::zeros({2, 2}, at::kLong)),
              AllOf(test::is_one_line(), HasSubstr("[2, 2]")));
  EXPECT_THAT(refused(at::empty({0}, at::kLong)), AllOf(test::is_one_line(), HasSubstr("[0]")));
}

RC_GTEST_PROP(BalancedClustering, SizesDifferByAtMostOne, ()) {
  const auto examples = any_between(1, 60), clusters = any_between(1, examples);
  auto generator = test::generator_of(static_cast<uint64_t>(any_between(0, 1000)));
  const auto order = at::randperm(examples, generator, at::dtype(at::kLong));
  const auto clustering = balanced_clustering(order, clusters);
  RC_ASSERT(clustering.clusters() == clusters);
  RC_ASSERT(clustering.examples() == examples);
  const auto [smallest, largest] = std::ranges::minmax(clustering.sizes());
  RC_ASSERT(smallest >= 1);
  RC_ASSERT(largest - smallest <= 1);
  // Clusters are runs of the order.
  const auto along = clustering.assignments().index_select(0, order);
  RC_ASSERT(at::equal(along, std::get<0>(along.sort())));
}

RC_GTEST_PROP(BalancedClustering, SizesFollowTheDrawsOfACluster, ()) {
  const auto clusters = any_between(1, 8), draws = any_between(clusters, 30),
             per_draw = any_between(1, 5);
  const auto order = at::arange(draws * per_draw, at::kLong);
  const auto clustering = balanced_clustering(order, clusters, draws);
  const auto allocation = allocate(Allocation::kProportional, clustering.sizes(), {}, draws, false);
  for (size_t k = 0; k < allocation.size(); ++k) {
    RC_ASSERT(clustering.sizes()[k] == allocation[k] * per_draw);
  }
  const auto [fewest, most] = std::ranges::minmax(allocation);
  RC_ASSERT(most - fewest <= 1);
}

}  // namespace
}  // namespace gradist
