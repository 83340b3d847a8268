#include "data/embedded_digits.h"

#include <algorithm>

#include <gtest/gtest.h>

namespace gradist::detail {
namespace {

TEST(EmbeddedDigits, HoldsEveryLineOfBothFiles) {
  EXPECT_EQ(std::ranges::count(digits_train_csv(), '\n'), 3823);
  EXPECT_EQ(std::ranges::count(digits_test_csv(), '\n'), 1797);
}

TEST(EmbeddedDigits, BeginsAndEndsWithWholeLines) {
  EXPECT_TRUE(digits_train_csv().starts_with("0,1,6,15,12,1,0,0,0,7,16,"));
  EXPECT_TRUE(digits_train_csv().ends_with(",7\n"));
  EXPECT_TRUE(digits_test_csv().starts_with("0,0,5,13,9,1,0,0,0,0,13,"));
  EXPECT_TRUE(digits_test_csv().ends_with(",8\n"));
}

}  // namespace
}  // namespace gradist::detail
