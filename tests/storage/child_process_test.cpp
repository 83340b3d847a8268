#include "storage/child_process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <thread>
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
  ChildProcess child([&](const ChildProcess::Parent& parent) {
    here = 1;
    parent.write(text.data(), text.size());
  });
  EXPECT_EQ(all_of(child), text);
  EXPECT_EQ(child.wait(), "");
  EXPECT_EQ(here, 0);
}

TEST(ChildProcess, DiesAlone) {
  ChildProcess fault([](const ChildProcess::Parent& parent) {
    parent.write("ab", 2);
    std::raise(SIGSEGV);
  });
  EXPECT_EQ(all_of(fault), "ab");
  const ChildProcess another([](const ChildProcess::Parent& parent) { parent.write("c", 1); });
  for (int again = 0; again < 2; ++again) EXPECT_EQ(fault.wait(), "segmentation fault");
  ChildProcess aborted([](const ChildProcess::Parent&) { std::abort(); });
  EXPECT_EQ(aborted.wait(), "aborted");
  ChildProcess left([](const ChildProcess::Parent&) { _exit(3); });
  EXPECT_EQ(left.wait(), "exit status 3");
}

TEST(ChildProcess, IsEndedWhereNobodyWaits) {
  // It would write for ever, but its reader goes.
  const ChildProcess endless([](const ChildProcess::Parent& parent) {
    while (true) parent.write("x", 1);
  });
}

/// Answers each byte by the next one.
void count_on(const ChildProcess::Parent& parent) {
  stay_for_requests();
  std::array<uint8_t, 1> byte = {};
  while (parent.read(byte) == 1) {
    ++byte[0];
    parent.write(byte.data(), 1);
  }
}

TEST(ChildProcess, AnswersUntilItsParentCloses) {
  std::optional<ChildProcess> child;
  const auto next = [&child](uint8_t number) -> int {
    child->write(&number, 1);
    std::array<uint8_t, 1> answer = {};
    return child->read(answer) == 1 ? answer[0] : -1;
  };
  std::thread starter([&] {
    child.emplace(count_on);
    EXPECT_EQ(next(1), 2);
  });
  starter.join();
  EXPECT_EQ(next(7), 8) << "though the thread that started it has ended";
  EXPECT_EQ(next(200), 201);
}

TEST(ChildProcess, IsWrittenToInVainOnceItHasEnded) {
  ChildProcess child([](const ChildProcess::Parent&) {});
  EXPECT_EQ(child.wait(), "");
  const uint8_t number = 0;
  EXPECT_FALSE(child.write(&number, 1));
}

TEST(ChildProcess, HasNoneOfTheFilesThatAreOpen) {
  const int first = open("/dev/null", O_RDONLY);
  const int file = fcntl(first, F_DUPFD, 100);  // not a number that the child itself needs
  ChildProcess child([&](const ChildProcess::Parent& parent) {
    const bool open = fcntl(file, F_GETFD) >= 0;
    parent.write(&open, 1);
  });
  EXPECT_EQ(all_of(child), std::string(1, '\0'));
  close(first);
  close(file);
}

TEST(ChildProcess, HasSoMuchTimeAndNoMore) {
  ChildProcess busy([](const ChildProcess::Parent&) {
    limit_processor_time(0);
    for (volatile int64_t i = 0; true;) i = i + 1;
  });
  EXPECT_THAT(busy.wait(), ::testing::StartsWith("cpu time limit"));
}

#ifndef __SANITIZE_ADDRESS__
TEST(ChildProcess, HasSoMuchMemoryAndNoMore) {
  ChildProcess hungry([](const ChildProcess::Parent& parent) {
    const auto can_have = [](size_t bytes) {
      void* block = std::malloc(bytes);
      std::free(block);
      return block != nullptr;
    };
    constexpr size_t kMegabyte = size_t{1} << 20;
    limit_memory(64 * kMegabyte);
    const std::array<bool, 2> tight = {can_have(32 * kMegabyte), can_have(128 * kMegabyte)};
    limit_memory(256 * kMegabyte);
    const bool wide = can_have(128 * kMegabyte);
    parent.write(tight.data(), sizeof tight);
    parent.write(&wide, 1);
  });
  EXPECT_EQ(all_of(hungry), std::string("\1\0\1", 3));
}
#endif

}  // namespace
}  // namespace gradist::detail
