#include "trajectory/log_points.h"

#include "trajectory/transform_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace gradist {
namespace {

using ::testing::ElementsAre;

RunOptions run_of(int64_t iterations) {
  RunOptions options;
  options.iterations = iterations;
  return options;
}

TEST(LogPoints, AreEveryNthAndTheLast) {
  RunOptions options = run_of(10);
  options.log_every = 4;
  EXPECT_THAT(log_points(options), ElementsAre(0, 4, 8, 10));
  options.log_every = 5;
  EXPECT_THAT(log_points(options), ElementsAre(0, 5, 10));
}

TEST(LogPoints, AreFractionsOfTheWayBetweenRefreshes) {
  RunOptions options = run_of(250);
  options.refresh_every = 50;
  options.log_at = {0.02, 0.11, 0.33, 1};
  options.log_at_every = 3;
  EXPECT_THAT(log_points(options), ElementsAre(1, 5, 16, 49, 151, 155, 166, 199, 250));
  options.log_at = {1, 0, 0.999};
  EXPECT_THAT(log_points(options), ElementsAre(0, 49, 150, 199, 250)) << "any order, none twice";
}

TEST(LogPoints, EndWithTheRun) {
  RunOptions options = run_of(20);
  options.refresh_every = 50;
  options.log_at = {0.1, 0.4, 0.5};
  EXPECT_THAT(log_points(options), ElementsAre(5, 20));
}

TEST(LogPoints, DriftIsFollowedBetweenRefreshes) {
  RunOptions options = run_of(20);
  options.refresh_every = 3;
  options.drift_every = 2;
  std::vector<int64_t> followed;
  for (int64_t t = 0; t < 12; ++t) {
    if (follows_drift(options, t)) followed.push_back(t);
  }
  EXPECT_THAT(followed, ElementsAre(1, 2, 7, 8));
  options.drift_every = 0;
  EXPECT_FALSE(follows_drift(options, 1));
}

TEST(TransformKeys, LockedTheyAreTheRefresh) {
  EXPECT_EQ(transform_key(true, 3, Pass::kRefresh, 3), transform_key(true, 3, Pass::kTraining, 8));
  EXPECT_NE(transform_key(true, 3, Pass::kRefresh, 3), transform_key(true, 4, Pass::kRefresh, 4));
}

TEST(TransformKeys, ElseEachPassHasItsOwn) {
  std::set<uint64_t> keys;
  for (const auto pass : {Pass::kTraining, Pass::kRefresh, Pass::kMeasuring, Pass::kDrift}) {
    for (int64_t number = 0; number < 5; ++number) {
      keys.insert(transform_key(false, 3, pass, number));
    }
  }
  EXPECT_EQ(keys.size(), 20U);
}

}  // namespace
}  // namespace gradist
