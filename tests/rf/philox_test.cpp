#include "rf/philox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace gradist::rf {
namespace {

using ::testing::ElementsAre;

// The known answer of Philox4x32-10 for key 0 and counter 0 that [Salmon11]'s library is tested by.
TEST(Philox, GivesTheKnownAnswer) {
  const Philox philox(0, static_cast<Stream>(0));
  EXPECT_THAT(philox(0, 0), ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
}

TEST(Philox, SeedsStreamsAndPlacesDiffer) {
  const auto words = Philox(1, Stream::kInputs)(2, 3);
  EXPECT_NE(words, Philox(2, Stream::kInputs)(2, 3));
  EXPECT_NE(words, Philox(1, Stream::kTestInputs)(2, 3));
  EXPECT_NE(words, Philox(1, Stream::kInputs)(3, 3));
  EXPECT_NE(words, Philox(1, Stream::kInputs)(2, 4));
  EXPECT_NE(words, Philox(uint64_t{1} << 32 | 1, Stream::kInputs)(2, 3));
}

TEST(Words, AreTheBlocksInOrder) {
  const Philox philox(5, Stream::kEpochs);
  Words words(philox, 7);
  for (uint32_t column = 0; column < 3; ++column) {
    for (const uint32_t word : philox(7, column)) {
      EXPECT_EQ(words.next(), word);
    }
  }
}

// Each of 7 values has probability 1/7 exactly; five standard deviations of the count, fixed seed.
TEST(Words, BelowIsUniform) {
  Words words(Philox(3, Stream::kEpochs), 0);
  constexpr int kDraws = 70000;
  std::vector<int> counts(7);
  for (int draw = 0; draw < kDraws; ++draw) {
    ++counts.at(words.below(7));
  }
  for (const int count : counts) {
    EXPECT_NEAR(count, kDraws / 7, 5 * 92.6);
  }
  EXPECT_EQ(words.below(1), 0U);
}

TEST(Words, UniformFillsTheUnitInterval) {
  Words words(Philox(3, Stream::kEpochs), 1);
  double sum = 0, least = 1, most = 0;
  constexpr int kDraws = 10000;
  for (int draw = 0; draw < kDraws; ++draw) {
    const double u = words.uniform();
    sum += u;
    least = std::min(least, u);
    most = std::max(most, u);
  }
  EXPECT_GE(least, 0);
  EXPECT_LT(most, 1);
  EXPECT_NEAR(sum / kDraws, 0.5, 5 * 0.2887 / 100);
}

}  // namespace
}  // namespace gradist::rf
