#pragma once

#include "gradients/formation.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

namespace gradist::detail {

/// Divides coordinates [rows, columns] into a grid of ranges of `most` rows and columns, which
/// begin at multiples of `tile`; into as many as `parts` where there are so many tiles.
class CoordinateGrid {
 public:
  CoordinateGrid(int64_t rows, int64_t columns, PositionTile tile, PositionTile most, int64_t parts)
      : rows_(rows),
        columns_(columns),
        tile_(tile),
        row_tiles_(at::divup(rows, tile.rows)),
        column_tiles_(at::divup(columns, tile.columns)),
        down_(std::min(row_tiles_, at::divup(rows, most.rows))),
        across_(std::min(column_tiles_, at::divup(columns, most.columns))) {
    // Every part brings its rows and its columns side by side: the longer side is divided.
    if (rows >= columns) {
      down_ = std::min(row_tiles_, std::max(down_, at::divup(parts, across_)));
    }
    across_ = std::min(column_tiles_, std::max(across_, at::divup(parts, down_)));
  }

  int64_t size() const { return down_ * across_; }

  CoordinateRange operator[](int64_t part) const {
    const auto row = part / across_, column = part % across_;
    const auto begin = [](int64_t of, int64_t parts, int64_t tiles, int64_t tile, int64_t end) {
      return std::min(of * tiles / parts * tile, end);
    };
    return {begin(row, down_, row_tiles_, tile_.rows, rows_),
            begin(row + 1, down_, row_tiles_, tile_.rows, rows_),
            begin(column, across_, column_tiles_, tile_.columns, columns_),
            begin(column + 1, across_, column_tiles_, tile_.columns, columns_)};
  }

 private:
  int64_t rows_, columns_;
  PositionTile tile_;
  int64_t row_tiles_, column_tiles_, down_, across_;
};

/// How many threads so many multiply-adds are worth.
inline int64_t threads_worth(int64_t multiply_adds) {
  constexpr int64_t kGrain = int64_t{1} << 20;
  return std::clamp<int64_t>(multiply_adds / kGrain, 1, at::get_num_threads());
}

/// Calls work(0), ..., work(threads - 1), each on a thread of its own where there are so many.
template <typename Work>
void on_threads(int64_t threads, const Work& work) {
  at::parallel_for(0, threads, 1, [&](int64_t first, int64_t last) {
    for (auto thread = first; thread < last; ++thread) {
      work(thread);
    }
  });
}

/// Calls `work` with the number of every range, on so many threads.
template <typename Work>
void for_each_range(const CoordinateGrid& grid, int64_t threads, const Work& work) {
  at::parallel_for(0, grid.size(), at::divup(grid.size(), threads),
                   [&](int64_t first, int64_t last) {
                     for (auto part = first; part < last; ++part) {
                       work(part);
                     }
                   });
}

}  // namespace gradist::detail
