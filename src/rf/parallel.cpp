#include "rf/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace gradist::rf {

void parallel_for(int64_t count, int64_t threads, const std::function<void(int64_t)>& work) {
  std::atomic<int64_t> next = 0;
  std::exception_ptr thrown;
  std::mutex guard;
  const auto take_work = [&] {
    for (int64_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        const std::lock_guard lock(guard);
        thrown = thrown ? thrown : std::current_exception();
        next = count;
      }
    }
  };
  std::vector<std::thread> others;
  for (int64_t t = 1; t < std::min(threads, count); ++t) {
    others.emplace_back(take_work);
  }
  take_work();
  for (auto& other : others) {
    other.join();
  }
  if (thrown) {
    std::rethrow_exception(thrown);
  }
}

int64_t resolved_threads(int64_t threads) {
  if (threads > 0) {
    return threads;
  }
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    return std::max(1, CPU_COUNT(&allowed));
  }
  return std::max(1U, std::thread::hardware_concurrency());
}

}  // namespace gradist::rf
