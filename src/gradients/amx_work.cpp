#include "gradients/amx_work.h"

#include "gradients/coordinate_grid.h"

#include <algorithm>

namespace gradist::detail {
namespace {

/// Numbers of a part times positions, which stay in a core's L2, and the most of a group; groups
/// are smaller where that makes so many for every thread.
constexpr int64_t kMostKept = int64_t{1} << 17, kGroupRows = 64, kGroupColumns = 128;
constexpr int64_t kGroupsOfThread = 4;

/// Of so many entries at most, rounded up to a multiple.
AmxIntervals intervals(int64_t size, int64_t most, int64_t multiple) {
  const auto units = at::divup(size, multiple);
  const auto count = at::divup(units, std::max<int64_t>(1, at::divup(most, multiple)));
  const auto each = at::divup(units, count) * multiple;
  return {size, each, at::divup(size, each)};
}

}  // namespace

AmxSection AmxIntervals::of(int64_t i) const {
  AmxSection section;
  section.begin = i * each;
  section.end = std::min(size, section.begin + each);
  return section;
}

void AmxQueue::fill(int64_t first, int64_t last) {
  left_ = (static_cast<uint64_t>(last) << 32) | static_cast<uint64_t>(first);
}

int64_t AmxQueue::take_first() { return take(/*from_front=*/true); }
int64_t AmxQueue::take_last() { return take(/*from_front=*/false); }

int64_t AmxQueue::take(bool from_front) {
  auto left = left_.load(std::memory_order_relaxed);
  for (;;) {
    const auto first = left & 0xffffffff, last = left >> 32;
    if (first >= last) {
      return -1;
    }
    const auto rest = from_front ? left + 1 : left - (uint64_t{1} << 32);
    if (left_.compare_exchange_weak(left, rest, std::memory_order_relaxed)) {
      return static_cast<int64_t>(from_front ? first : last - 1);
    }
  }
}

AmxWork::AmxWork(const AmxProducts& of, const AmxResult& to, int64_t threads)
    : products(of),
      result(to),
      by_rows(of.rows.numbers >= of.columns.numbers),
      positions_(intervals(
          of.positions, of.positions_at_once == 0 ? of.positions : of.positions_at_once, kAmxStep)),
      groups_(by_rows ? groups(of.rows.numbers, kGroupRows, kAmxRows, threads)
                      : groups(of.columns.numbers, kGroupColumns, kAmxColumns, threads)),
      parts_(by_rows ? parts(of.columns.numbers, kAmxColumns, threads)
                     : parts(of.rows.numbers, kAmxRows, threads)),
      threads_(threads),
      queues_(static_cast<size_t>(steps() * threads)),
      done_(static_cast<size_t>(parts_.count * groups_.count)),
      squares_(done_.size() * static_cast<size_t>(of.examples)) {
  for (size_t i = 0; i < queues_.size(); ++i) {
    const auto thread = static_cast<int64_t>(i) % threads;
    queues_[i].fill(thread * groups_.count / threads, (thread + 1) * groups_.count / threads);
  }
}

AmxWork::~AmxWork() = default;

AmxIntervals AmxWork::groups(int64_t numbers, int64_t most, int64_t tile, int64_t threads) {
  return intervals(numbers, std::min(most, at::divup(numbers, kGroupsOfThread * threads)), tile);
}

/// Threads for which a part has no group go on to another part.
AmxIntervals AmxWork::parts(int64_t numbers, int64_t tile, int64_t threads) const {
  const auto busy_at_once = at::divup(threads, groups_.count);
  return intervals(numbers, std::min(kMostKept / positions_.each, at::divup(numbers, busy_at_once)),
                   tile);
}

int64_t AmxWork::steps() const { return products.examples * positions_.count * parts_.count; }

int64_t AmxWork::most_positions() const { return positions_.each; }
int64_t AmxWork::most_rows() const { return (by_rows ? groups_ : parts_).each; }
int64_t AmxWork::most_columns() const { return (by_rows ? parts_ : groups_).each; }

int64_t AmxWork::part_of(int64_t step) const { return step % parts_.count; }
int64_t AmxWork::round_of(int64_t step) const { return step / parts_.count; }

AmxSection AmxWork::at_positions(int64_t step, AmxSection numbers) const {
  const auto at = positions_.of(round_of(step) % positions_.count);
  numbers.example = round_of(step) / positions_.count;
  numbers.position = at.begin;
  numbers.positions = at.end - at.begin;
  return numbers;
}
AmxSection AmxWork::part(int64_t step) const {
  return at_positions(step, parts_.of(part_of(step)));
}
AmxSection AmxWork::group(int64_t step, int64_t group) const {
  return at_positions(step, groups_.of(group));
}

bool AmxWork::is_first(int64_t step) const { return round_of(step) == 0; }

float* AmxWork::row_sums(int64_t step) const {
  // Where groups are of rows, they are read again for every part.
  if (result.row_sums == nullptr || (by_rows && part_of(step) != 0)) {
    return nullptr;
  }
  return result.row_sums + round_of(step) / positions_.count * products.rows.numbers;
}

int64_t AmxWork::take(int64_t step, int64_t thread) {
  const auto queue = [&](int64_t of) -> AmxQueue& {
    return queues_[static_cast<size_t>(step * threads_ + of)];
  };
  auto group = queue(thread).take_first();
  for (int64_t other = 1; group < 0 && other < threads_; ++other) {
    group = queue((thread + other) % threads_).take_last();
  }
  return group;
}

size_t AmxWork::place(int64_t step, int64_t group) const {
  return static_cast<size_t>(part_of(step) * groups_.count + group);
}

void AmxWork::wait(int64_t step, int64_t group) {
  const auto& done = done_[place(step, group)];
  for (auto rounds = done.load(std::memory_order_acquire); rounds != round_of(step);
       rounds = done.load(std::memory_order_acquire)) {
    done.wait(rounds, std::memory_order_acquire);
  }
}

void AmxWork::finish(int64_t step, int64_t group, double squares) {
  const auto at = place(step, group);
  const auto example = round_of(step) / positions_.count;
  squares_[at * static_cast<size_t>(products.examples) + static_cast<size_t>(example)] += squares;
  done_[at].store(round_of(step) + 1, std::memory_order_release);
  done_[at].notify_all();
}

void AmxWork::add_squares() const {
  if (result.squared_norms == nullptr) {
    return;
  }
  const auto examples = static_cast<size_t>(products.examples);
  std::fill_n(result.squared_norms, examples, 0.0);
  for (size_t i = 0; i < squares_.size(); ++i) {
    result.squared_norms[i % examples] += squares_[i];
  }
}

void multiply_by_amx(const AmxProducts& products, const AmxResult& result, int64_t threads) {
  AmxWork work(products, result, threads);
  on_threads(threads, [&](int64_t thread) { run_amx(work, thread); });
  work.add_squares();
}

}  // namespace gradist::detail
