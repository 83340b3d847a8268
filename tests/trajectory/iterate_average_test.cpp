#include "trajectory/iterate_average.h"

#include "support/tensor_near.h"

#include <gtest/gtest.h>

namespace gradist {
namespace {

/// Two parameters, [2, 3] and [4].
ParameterList random_iterate(at::ScalarType type) {
  return {at::rand({2, 3}, type), at::rand({4}, type)};
}

TEST(IterateAverageTest, TakesAShareOfTheInterval) {
  EXPECT_EQ(averaged_iterates(0, 78), 0);
  EXPECT_EQ(averaged_iterates(0.1, 78), 8) << "7.8";
  EXPECT_EQ(averaged_iterates(0.1, 390), 39);
  EXPECT_EQ(averaged_iterates(0.5, 78), 39);
  EXPECT_EQ(averaged_iterates(1, 78), 78);
  EXPECT_EQ(averaged_iterates(1e-9, 78), 1) << "the last iterate at least";
  EXPECT_EQ(averaged_iterates(0.3, 1), 1);
}

// The mean of n float64 numbers from [0, 1), two ways: each rounds n times, by at most n ulps / 2.
TEST(IterateAverageTest, IsTheMeanOfTheLastIteratesBeforeARefresh) {
  constexpr int64_t kInterval = 10;
  for (const double share : {0.1, 0.3, 0.5, 1.0}) {
    IterateAverage average(share, kInterval);
    std::vector<std::vector<at::Tensor>> last(2);
    const int64_t first = kInterval - averaged_iterates(share, kInterval) + 1;
    for (int64_t t = 1; t <= 3 * kInterval; ++t) {
      const ParameterList iterate = random_iterate(at::kDouble);
      average.add(t, iterate);
      for (size_t l = 0; l < 2; ++l) {
        if ((t - 1) % kInterval + 1 >= first) last[l].push_back(iterate[l]);
      }
      if (t % kInterval != 0) continue;
      const ParameterList moved = random_iterate(at::kDouble);
      average.move_to_mean(moved);
      for (size_t l = 0; l < 2; ++l) {
        EXPECT_TRUE(test::tensor_near(moved[l], at::stack(last[l]).mean(0), 1e-14)) << share << t;
        last[l].clear();
      }
    }
  }
}

TEST(IterateAverageTest, OfOneIterateIsThisIterate) {
  IterateAverage average(0.01, 5);
  const ParameterList iterate = {-at::zeros({3}), at::rand({4})};
  for (int64_t t = 1; t < 5; ++t) average.add(t, random_iterate(at::kFloat));
  average.add(5, iterate);
  const ParameterList moved = {at::rand({3}), at::rand({4})};
  average.move_to_mean(moved);
  EXPECT_TRUE(test::same_bits(moved, iterate)) << "-0 stays -0";
}

TEST(IterateAverageTest, OffItMovesNothing) {
  IterateAverage average(0, 2);
  const ParameterList iterate = random_iterate(at::kFloat);
  const ParameterList before = {iterate[0].clone(), iterate[1].clone()};
  average.add(2, iterate);
  average.move_to_mean(iterate);
  EXPECT_TRUE(test::same_bits(iterate, before));
}

}  // namespace
}  // namespace gradist
