#pragma once

#include "gradients/amx.h"

#include <atomic>
#include <cstdint>
#include <vector>

namespace gradist::detail {

/// Numbers [begin, end) of one side, of an example at so many positions.
struct AmxSection {
  int64_t example = 0, position = 0, positions = 0, begin = 0, end = 0;
};

/// Equal intervals of [0, size).
struct AmxIntervals {
  int64_t size = 0, each = 0, count = 0;

  AmxSection of(int64_t i) const;
};

/// Numbers [first, last) that are yet to be taken.
class alignas(64) AmxQueue {
 public:
  void fill(int64_t first, int64_t last);

  /// -1 where none is left.
  int64_t take_first();
  int64_t take_last();

 private:
  int64_t take(bool from_front);

  std::atomic<uint64_t> left_{0};  ///< `last` in the upper half
};

/// How threads divide products among themselves (amx.h).
///
/// The longer side of C goes in groups, which threads take; the other one in parts, of which each
/// thread reads a whole one for itself. A step is one part at some positions of an example; steps
/// go through parts, positions, examples. In a step every thread has groups of its own, and takes
/// those of others once these are done: threads are not equally fast where somebody else uses the
/// processor too. To the same coordinates steps add in order, so the bits do not depend on who did
/// what.
///
/// Compiled for any processor; amx.cpp, which is not, has no functions in common with others.
class AmxWork {
 public:
  AmxWork(const AmxProducts& products, const AmxResult& result, int64_t threads);
  ~AmxWork();
  AmxWork(const AmxWork&) = delete;
  AmxWork& operator=(const AmxWork&) = delete;

  const AmxProducts products;
  const AmxResult result;
  const bool by_rows;  ///< groups are of rows, parts of columns; else the other way round

  int64_t steps() const;

  /// The most that `part` and `group` have.
  int64_t most_positions() const;
  int64_t most_rows() const;
  int64_t most_columns() const;

  AmxSection part(int64_t step) const;
  AmxSection group(int64_t step, int64_t group) const;

  /// Whether nothing has been added to the sum before.
  bool is_first(int64_t step) const;

  /// Where the sums of rows go that this step alone tells; null if it does not.
  float* row_sums(int64_t step) const;

  /// A group for the thread; -1 where none is left.
  int64_t take(int64_t step, int64_t thread);

  /// Before adding to a group of C, and after; `squares` are the group's of this step.
  void wait(int64_t step, int64_t group);
  void finish(int64_t step, int64_t group, double squares);

  /// After all.
  void add_squares() const;

 private:
  static AmxIntervals groups(int64_t numbers, int64_t most, int64_t tile, int64_t threads);
  AmxIntervals parts(int64_t numbers, int64_t tile, int64_t threads) const;

  int64_t part_of(int64_t step) const;
  int64_t round_of(int64_t step) const;  ///< times that a part was there before
  AmxSection at_positions(int64_t step, AmxSection numbers) const;
  size_t place(int64_t step, int64_t group) const;

  AmxIntervals positions_, groups_, parts_;
  int64_t threads_;
  std::vector<AmxQueue> queues_;            ///< [step][thread]
  std::vector<std::atomic<int64_t>> done_;  ///< rounds, [part][group]
  std::vector<double> squares_;             ///< [part][group][example]
};

/// A thread's part in it; amx.cpp.
void run_amx(AmxWork& work, int64_t thread);

}  // namespace gradist::detail
