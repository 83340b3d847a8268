#pragma once

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
  /// Products are added to `sum` after so many positions each; squares are of such parts then.
  int64_t positions_at_once = 0;  ///< 0: all
};

/// What is made of C_i: `sum` [rows, columns] = sum_i C_i, plus `shift` [columns] in each row;
/// squared_norms[i] = the squares of C_i; `row_sums` [examples, rows] = sum_s rows_i[s, r], for
/// numbers side by side. Each where it is not null.
struct AmxResult {
  float* sum = nullptr;
  const float* shift = nullptr;
  double* squared_norms = nullptr;
  float* row_sums = nullptr;
};

/// The same bits for the same number of threads, whoever does what.
void multiply_by_amx(const AmxProducts& products, const AmxResult& result, int64_t threads);

/// Whether this build, the processor and the system know AMX.
bool has_amx();

/// What tiles hold: numbers of each side, and positions of a product.
constexpr int64_t kAmxRows = 16, kAmxColumns = 32, kAmxStep = 32;

/// The most positions at once: their products are added one after the other.
constexpr int64_t kAmxPositions = 2048;

}  // namespace gradist::detail
