#pragma once

// RapidCheck inside GoogleTest, with the same cases in every run: RC_PARAMS="" in the environment
// gives random ones.

#include <gtest/gtest.h>
// rapidcheck/gtest.h expects GoogleTest to be there.
#include <rapidcheck/gtest.h>

#include <cstdlib>

namespace gradist::test {

inline const bool kSameCasesEveryRun = [] {
  return setenv("RC_PARAMS", "seed=20260101 max_success=60", /*replace=*/0) == 0;
}();

/// Whole numbers in [low, high], which shrink towards `low`.
inline int64_t any_between(int64_t low, int64_t high) {
  return *rc::gen::inRange<int64_t>(low, high + 1);
}

}  // namespace gradist::test
