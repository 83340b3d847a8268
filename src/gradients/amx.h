#pragma once

#include "gradients/formation.h"

#include <cstdint>

namespace gradist::detail {

/// One side of products by AMX: number n at position s of example i lies at
/// data + example * i + position * s + number * n. Either positions or numbers are side by side.
struct AmxSide {
  const float* data = nullptr;
  int64_t example = 0, position = 0, number = 0;
  int64_t numbers = 0;
};

/// C_i[r, c] = sum_s rows_i[s, r] columns_i[s, c], in float32, by the processor's tiles of bfloat16
/// (Intel AMX).
///
/// Every number is a sum of three bfloat16, x = h + m + l; of the nine products the six largest are
/// taken, h h + h m + m h + m m + h l + l h, and added in float32: what is left out is below 2^-23
/// of a product, as what a float32 loses. One product where all numbers are bfloat16 themselves. An
/// infinity becomes a NaN. [Henry19]
struct AmxProducts {
  AmxSide rows, columns;
  int64_t examples = 1, positions = 0;
};

/// What is made of C_i in a range of its coordinates: `sum` [rows, columns] = sum_i C_i, plus
/// `shift` [columns] in each row, plus what was there unless `fresh`; squared_norms[i] += the
/// squares of C_i; `row_sums` [examples, rows] = sum_s rows_i[s, r], for numbers side by side. Each
/// where it is not null.
struct AmxResult {
  float* sum = nullptr;
  const float* shift = nullptr;
  bool fresh = true;
  double* squared_norms = nullptr;
  float* row_sums = nullptr;
};

void multiply_by_amx(const AmxProducts& products, const CoordinateRange& range,
                     const AmxResult& result);

/// Whether this build, the processor and the system know AMX.
bool has_amx();

/// What ranges should begin at multiples of, and the most positions: their products are added one
/// after the other.
constexpr PositionTile kAmxTile{16, 32};
constexpr int64_t kAmxPositions = 2048;

/// Columns times positions that stay in a core's L2.
constexpr int64_t kAmxColumnNumbers = int64_t{1} << 17;

}  // namespace gradist::detail
