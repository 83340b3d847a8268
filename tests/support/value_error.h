#pragma once

#include <c10/util/Exception.h>
#include <gmock/gmock.h>

#include <string>

namespace gradist::test {

/// The one line a user gets to see when `action` refuses its input; "" if it does not refuse it.
template <typename Action>
std::string refusal(Action action) {
  try {
    action();
  } catch (const c10::ValueError& error) {
    return error.what_without_backtrace();
  }
  return "";
}

/// One line without its end.
inline auto is_one_line() {
  return ::testing::AllOf(::testing::Not(::testing::IsEmpty()),
                          ::testing::Not(::testing::HasSubstr("\n")));
}

}  // namespace gradist::test
