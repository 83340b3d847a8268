#include "storage/child_process.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <vector>

namespace gradist::detail {
namespace {

std::string all_of(ChildProcess& child) {
  std::vector<uint8_t> bytes(1 << 20);
  bytes.resize(child.read(bytes));
  return {bytes.begin(), bytes.end()};
}

TEST(ChildProcess, SaysWhatItHasToSay) {
  int here = 0;
  const std::string text(200000, 'x');
  ChildProcess child([&](const ChildProcess::Write& write) {
    here = 1;
    write(text.data(), text.size());
  });
  EXPECT_EQ(all_of(child), text);
  EXPECT_EQ(child.wait(), "");
  EXPECT_EQ(here, 0);
}

TEST(ChildProcess, DiesAlone) {
  ChildProcess fault([](const ChildProcess::Write& write) {
    write("ab", 2);
    std::raise(SIGSEGV);
  });
  EXPECT_EQ(all_of(fault), "ab");
  EXPECT_EQ(fault.wait(), "segmentation fault");
  ChildProcess aborted([](const ChildProcess::Write&) { std::abort(); });
  EXPECT_EQ(aborted.wait(), "aborted");
  ChildProcess left([](const ChildProcess::Write&) { _exit(3); });
  EXPECT_EQ(left.wait(), "exit status 3");
}

TEST(ChildProcess, IsEndedWhereNobodyWaits) {
  // It would write for ever, but its reader goes.
  const ChildProcess endless([](const ChildProcess::Write& write) {
    while (true) write("x", 1);
  });
}

TEST(ChildProcess, HasSoMuchTimeAndNoMore) {
  ChildProcess busy([](const ChildProcess::Write&) {
    limit_processor_time(0);
    for (volatile int64_t i = 0; true;) i = i + 1;
  });
  EXPECT_THAT(busy.wait(), ::testing::StartsWith("cpu time limit"));
}

}  // namespace
}  // namespace gradist::detail
