#include "gradients/kernels_cpu.h"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

// Everything hot is written once, on vectors of a width given by the instruction set, and inlined
// into one function for each set; torch's own choice (ATEN_CPU_CAPABILITY) says which one runs.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define GRADIST_AVX2 [[gnu::target("avx2,fma")]]
#define GRADIST_AVX512 \
  [[gnu::target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")]]
#define GRADIST_INLINE [[gnu::always_inline]] inline
#else
#define GRADIST_AVX2
#define GRADIST_AVX512
#define GRADIST_INLINE inline
#endif

namespace gradist::kernels::cpu {
namespace {

/// The register tile of an instruction set: vectors of `bytes`, `rows` x `vectors` accumulators.
template <int64_t bytes, int64_t rows, int64_t vectors>
struct RegisterTile {
  static constexpr int64_t kBytes = bytes, kRows = rows, kVectors = vectors;
};
using Baseline = RegisterTile<16, 4, 2>;
using Avx2 = RegisterTile<32, 4, 2>;
using Avx512 = RegisterTile<64, 8, 2>;

template <typename T, int64_t bytes>
struct VectorOf {
  using Type [[gnu::vector_size(bytes)]] = T;
  using Unaligned [[gnu::vector_size(bytes), gnu::aligned(sizeof(T)), gnu::may_alias]] = T;
};

/// Positions multiplied before their sum leaves the registers: the panels of a tile stay in L1, and
/// rounding errors grow with the number of blocks, not of positions.
constexpr int64_t kDepth = 256;

/// Rows and columns of the part of [O, I] that one thread works on: its panels and its sum share
/// the L2 cache.
constexpr int64_t kBlock = 256;

/// Blocks of work that every call is cut into at least, if it has them, so that threads share it
/// evenly.
constexpr int64_t kLeastItems = 16;

/// Positions of one Gram tile; two such strips of rows stay in L2.
constexpr int64_t kGramBlock = 128;

/// Bytes of rows that a Gram tile keeps in L1.
constexpr int64_t kStripBytes = int64_t{24} << 10;

/// Multiply-adds worth a thread.
constexpr int64_t kGrain = int64_t{1} << 20;

/// Rows whose terms are summed in T before they go to float64.
constexpr int64_t kNormRows = 128;

int64_t divided_up(int64_t x, int64_t y) { return (x + y - 1) / y; }

/// Items for one thread at least, each of `work` multiply-adds.
int64_t grain(int64_t work) { return divided_up(kGrain, std::max<int64_t>(1, work)); }

// ---- panels

/// A matrix [rows, columns] of any strides.
template <typename Source>
struct Matrix {
  const Source* data;
  int64_t rows, columns, row_stride, column_stride;

  const Source* at(int64_t row, int64_t column) const {
    return data + row * row_stride + column * column_stride;
  }
};

/// Copies rows [row, row + depth) and columns [column, column + count) into panels of `width`
/// columns, each [depth, width], zeros past the end.
template <typename Source, typename T, int64_t width>
GRADIST_INLINE void pack(const Matrix<Source>& from, int64_t row, int64_t depth, int64_t column,
                         int64_t count, T* __restrict to) {
  for (int64_t done = 0; done < count; done += width, to += depth * width) {
    const auto filled = std::min(width, count - done);
    const Source* source = from.at(row, column + done);
    if (filled == width && from.column_stride == 1) {
      for (int64_t k = 0; k < depth; ++k) {
#pragma GCC unroll 1
        for (int64_t c = 0; c < width; ++c) {
          to[k * width + c] = static_cast<T>(source[k * from.row_stride + c]);
        }
      }
      continue;
    }
    if (filled < width) {
      std::fill_n(to, depth * width, T(0));
    }
    for (int64_t c = 0; c < filled; ++c) {
      for (int64_t k = 0; k < depth; ++k) {
        to[k * width + c] = static_cast<T>(source[k * from.row_stride + c * from.column_stride]);
      }
    }
  }
}

// ---- formed gradients

/// A register tile of one g_i: left [depth, rows]^T times right [depth, columns], both packed. What
/// earlier positions gave is in `partial`, [rows, columns]; at the last ones the tile is squared
/// and added to `sum`, else kept in `partial`. Returns the sum of squares.
struct TilePosition {
  bool first = true, last = true;  ///< of the blocks of positions
};

template <typename T, typename Tile>
GRADIST_INLINE double form_tile(const T* left, const T* right, int64_t depth, TilePosition position,
                                T* partial, T* sum) {
  using Vector = typename VectorOf<T, Tile::kBytes>::Type;
  using Memory = typename VectorOf<T, Tile::kBytes>::Unaligned;
  constexpr int64_t kLanes = Tile::kBytes / static_cast<int64_t>(sizeof(T));
  constexpr int64_t kRows = Tile::kRows, kVectors = Tile::kVectors;
  Vector tile[kRows][kVectors] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Vector row[kVectors];
#pragma GCC unroll 4
    for (int64_t v = 0; v < kVectors; ++v) {
      row[v] = *reinterpret_cast<const Memory*>(right + v * kLanes);
    }
#pragma GCC unroll 16
    for (int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int64_t v = 0; v < kVectors; ++v) {
        tile[r][v] += left[r] * row[v];
      }
    }
    left += kRows;
    right += kVectors * kLanes;
  }
  if (!position.first) {
#pragma GCC unroll 16
    for (int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int64_t v = 0; v < kVectors; ++v) {
        tile[r][v] += *reinterpret_cast<const Memory*>(partial + (r * kVectors + v) * kLanes);
      }
    }
  }
  if (!position.last) {
#pragma GCC unroll 16
    for (int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
      for (int64_t v = 0; v < kVectors; ++v) {
        *reinterpret_cast<Memory*>(partial + (r * kVectors + v) * kLanes) = tile[r][v];
      }
    }
    return 0;
  }
  Vector squares = {};
#pragma GCC unroll 16
  for (int64_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < kVectors; ++v) {
      squares += tile[r][v] * tile[r][v];
      *reinterpret_cast<Memory*>(sum + (r * kVectors + v) * kLanes) += tile[r][v];
    }
  }
  double total = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    total += static_cast<double>(squares[lane]);
  }
  return total;
}

// ---- position Gram matrices

/// Rows of one factor for a block of positions: `rows` of them, `length` numbers each (a multiple
/// of the vector's lanes), `stride` apart.
template <typename T>
struct Rows {
  const T* data;
  int64_t rows, length, stride;

  const T* row(int64_t r) const { return data + std::min(r, rows - 1) * stride; }
};

/// Adds up the lanes of `count` vectors, a power of two: neighbouring lanes of two vectors make one
/// vector of half sums, again and again, until lane i % lanes of vector i / lanes is the sum of
/// vector i.
template <typename T, typename Tile, int64_t count>
GRADIST_INLINE void add_lanes(typename VectorOf<T, Tile::kBytes>::Type (&vectors)[count]) {
  using Index = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;
  using Places = typename VectorOf<Index, Tile::kBytes>::Type;
  constexpr int64_t kLanes = Tile::kBytes / static_cast<int64_t>(sizeof(T));
  static_assert(count % kLanes == 0);
  Places even = {};
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    even[lane] = static_cast<Index>(2 * lane);
  }
  const Places odd = even + 1;
#pragma GCC unroll 8
  for (int64_t left = count; left > count / kLanes; left /= 2) {
#pragma GCC unroll 16
    for (int64_t v = 0; v < left / 2; ++v) {
      const auto x = vectors[2 * v], y = vectors[2 * v + 1];
      vectors[v] = __builtin_shuffle(x, y, even) + __builtin_shuffle(x, y, odd);
    }
  }
}

/// The inner products of 4 x 4 rows, `kPerVector` of them in a vector; rows past the end repeat the
/// last one.
template <typename T, typename Tile>
struct InnerProducts {
  using Vector = typename VectorOf<T, Tile::kBytes>::Type;
  using Memory = typename VectorOf<T, Tile::kBytes>::Unaligned;
  static constexpr int64_t kLanes = Tile::kBytes / static_cast<int64_t>(sizeof(T));
  static constexpr int64_t kSide = 4, kCount = kSide * kSide, kVectors = kCount / kLanes;

  GRADIST_INLINE void take(const Rows<T>& left, int64_t s, const Rows<T>& right, int64_t t) {
    const T *x[kSide], *y[kSide];
    for (int64_t r = 0; r < kSide; ++r) {
      x[r] = left.row(s + r);
      y[r] = right.row(t + r);
    }
    Vector sums[kCount] = {};
    for (int64_t k = 0; k < left.length; k += kLanes) {
      Vector column[kSide];
#pragma GCC unroll 4
      for (int64_t c = 0; c < kSide; ++c) {
        column[c] = *reinterpret_cast<const Memory*>(y[c] + k);
      }
#pragma GCC unroll 4
      for (int64_t r = 0; r < kSide; ++r) {
        const Vector row = *reinterpret_cast<const Memory*>(x[r] + k);
#pragma GCC unroll 4
        for (int64_t c = 0; c < kSide; ++c) {
          sums[r * kSide + c] += row * column[c];
        }
      }
    }
    add_lanes<T, Tile, kCount>(sums);
#pragma GCC unroll 8
    for (int64_t v = 0; v < kVectors; ++v) {
      products[v] = sums[v];
    }
  }

  /// <., .> of rows r and c of the two.
  double at(int64_t r, int64_t c) const {
    const auto place = r * kSide + c;
    return static_cast<double>(products[place / kLanes][place % kLanes]);
  }

  Vector products[kVectors];
};

/// sum over positions s of one block and t of another of <a_s, a_t> <d_s, d_t>; on the diagonal
/// (both blocks the same) over t >= s, those with t > s twice.
template <typename T, typename Tile>
GRADIST_INLINE double gram_block(const Rows<T>& a_left, const Rows<T>& a_right,
                                 const Rows<T>& d_left, const Rows<T>& d_right, bool diagonal) {
  using Products = InnerProducts<T, Tile>;
  constexpr int64_t kSide = Products::kSide;
  // As many rows t as stay in L1 while the rows s pass by.
  const auto row_bytes = (a_left.length + d_left.length) * static_cast<int64_t>(sizeof(T));
  const auto strip = std::max(kSide, kStripBytes / row_bytes / kSide * kSide);
  double total = 0;
  for (int64_t begin = 0; begin < a_right.rows; begin += strip) {
    const auto end = std::min(begin + strip, a_right.rows);
    for (int64_t s = 0; s < (diagonal ? end : a_left.rows); s += kSide) {
      typename Products::Vector whole_tiles = {};
      for (int64_t t = diagonal ? std::max(s, begin) : begin; t < end; t += kSide) {
        Products a, d;
        a.take(a_left, s, a_right, t);
        d.take(d_left, s, d_right, t);
        const auto rows = std::min(kSide, a_left.rows - s), columns = std::min(kSide, end - t);
        const bool on_diagonal = diagonal && s == t;
        if (!on_diagonal && rows == kSide && columns == kSide) {
#pragma GCC unroll 8
          for (int64_t v = 0; v < Products::kVectors; ++v) {
            whole_tiles += a.products[v] * d.products[v];
          }
          continue;
        }
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = on_diagonal ? r : 0; c < columns; ++c) {
            total += (on_diagonal && r == c ? 1.0 : 2.0) * a.at(r, c) * d.at(r, c);
          }
        }
      }
      for (int64_t lane = 0; lane < Products::kLanes; ++lane) {
        total += 2.0 * static_cast<double>(whole_tiles[lane]);
      }
    }
  }
  return total;
}

/// |x|^2 of a row whose length is a multiple of the lanes.
template <typename T, typename Tile>
GRADIST_INLINE double squared_norm(const T* x, int64_t length) {
  using Vector = typename VectorOf<T, Tile::kBytes>::Type;
  using Memory = typename VectorOf<T, Tile::kBytes>::Unaligned;
  constexpr int64_t kLanes = Tile::kBytes / static_cast<int64_t>(sizeof(T)), kTogether = 4;
  Vector sums[kTogether] = {};
  int64_t k = 0;
  for (; k + kTogether * kLanes <= length; k += kTogether * kLanes) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < kTogether; ++v) {
      const Vector value = *reinterpret_cast<const Memory*>(x + k + v * kLanes);
      sums[v] += value * value;
    }
  }
  for (; k < length; k += kLanes) {
    const Vector value = *reinterpret_cast<const Memory*>(x + k);
    sums[0] += value * value;
  }
  double total = 0;
  for (int64_t v = 0; v < kTogether; ++v) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      total += static_cast<double>(sums[v][lane]);
    }
  }
  return total;
}

template <typename T, typename Tile>
GRADIST_INLINE double gram_of_blocks(const Rows<T>& a_left, const Rows<T>& a_right,
                                     const Rows<T>& d_left, const Rows<T>& d_right, bool diagonal) {
  if (diagonal && a_left.rows == 1) {
    return squared_norm<T, Tile>(a_left.data, a_left.length) *
           squared_norm<T, Tile>(d_left.data, d_left.length);
  }
  return gram_block<T, Tile>(a_left, a_right, d_left, d_right, diagonal);
}

// ---- normalisation layers

/// Adds rows of d x^ to `scale` and of d to `shift`, both [channels].
template <typename Source, typename T>
GRADIST_INLINE void add_rows(const Source* x, const Source* d, const T* mean, const T* rstd,
                             int64_t rows, int64_t channels, T* __restrict scale,
                             T* __restrict shift) {
  constexpr int64_t kTogether = 4;
  int64_t r = 0;
  for (; r + kTogether <= rows; r += kTogether) {
    const Source* xr = x + r * channels;
    const Source* dr = d + r * channels;
    T centre[kTogether], factor[kTogether];
    for (int64_t k = 0; k < kTogether; ++k) {
      centre[k] = mean == nullptr ? T(0) : mean[r + k];
      factor[k] = rstd[r + k];
    }
    for (int64_t c = 0; c < channels; ++c) {
      T scale_sum = scale[c], shift_sum = shift[c];
#pragma GCC unroll 4
      for (int64_t k = 0; k < kTogether; ++k) {
        const auto backprop = static_cast<T>(dr[k * channels + c]);
        scale_sum += backprop * ((static_cast<T>(xr[k * channels + c]) - centre[k]) * factor[k]);
        shift_sum += backprop;
      }
      scale[c] = scale_sum;
      shift[c] = shift_sum;
    }
  }
  for (; r < rows; ++r) {
    const T centre = mean == nullptr ? T(0) : mean[r];
    for (int64_t c = 0; c < channels; ++c) {
      const auto backprop = static_cast<T>(d[r * channels + c]);
      scale[c] += backprop * ((static_cast<T>(x[r * channels + c]) - centre) * rstd[r]);
      shift[c] += backprop;
    }
  }
}

/// sum_s d_s (x_s - mean) and sum_s d_s of one channel.
struct ChannelSums {
  double product = 0, backprop = 0;
};
template <typename Source, typename T>
GRADIST_INLINE ChannelSums channel_sums(const Source* x, const Source* d, T mean, int64_t count) {
  constexpr int64_t kLanes = 64, kRounds = 32;
  ChannelSums sums;
  int64_t s = 0;
  while (s + kLanes <= count) {
    T product[kLanes] = {}, backprop[kLanes] = {};
    for (int64_t round = 0; round < kRounds && s + kLanes <= count; ++round, s += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const auto value = static_cast<T>(d[s + lane]);
        product[lane] += value * (static_cast<T>(x[s + lane]) - mean);
        backprop[lane] += value;
      }
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      sums.product += static_cast<double>(product[lane]);
      sums.backprop += static_cast<double>(backprop[lane]);
    }
  }
  for (; s < count; ++s) {
    const auto value = static_cast<T>(d[s]);
    sums.product += static_cast<double>(value * (static_cast<T>(x[s]) - mean));
    sums.backprop += static_cast<double>(value);
  }
  return sums;
}

// ---- running sums

/// null where not wanted.
double* numbers(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.data_ptr<double>() : nullptr;
}

template <typename T>
double add_segment(const T* segment_sum, const T* segment_squares, int64_t count,
                   const SegmentWeights& weights, const RunningSums& sums) {
  double *const sum = numbers(sums.sum), *const squares = numbers(sums.squares),
                *const within = numbers(sums.within), *const open = numbers(sums.open);
  double squared_norm = 0;
  for (int64_t j = 0; j < count; ++j) {
    double total = static_cast<double>(segment_sum[j]);
    sum[j] += weights.visit * total;
    if (!weights.whole) {
      total = open[j] += total;
    }
    squared_norm += total * total;
    if (squares != nullptr) {
      const auto square = static_cast<double>(segment_squares[j]);
      squares[j] += weights.visit * square;
      if (within != nullptr) {
        const double mean_part = weights.last ? total * total / weights.visited : 0.0;
        within[j] += weights.within * (square - mean_part);
      }
    }
    if (!weights.whole && weights.last) {
      open[j] = 0;
    }
  }
  return weights.last ? squared_norm : 0.0;
}

// ---- one function an instruction set

/// The hot functions for factors of type Source, compiled for one instruction set.
template <typename Source>
struct Primitives {
  using T = at::opmath_type<Source>;
  int64_t tile_rows, tile_columns, lanes;
  void (*pack_rows)(const Matrix<Source>&, int64_t, int64_t, int64_t, int64_t, T*);
  void (*pack_columns)(const Matrix<Source>&, int64_t, int64_t, int64_t, int64_t, T*);
  double (*form_tile)(const T*, const T*, int64_t, TilePosition, T*, T*);
  double (*gram_block)(const Rows<T>&, const Rows<T>&, const Rows<T>&, const Rows<T>&, bool);
  void (*add_rows)(const Source*, const Source*, const T*, const T*, int64_t, int64_t, T*, T*);
  ChannelSums (*channel_sums)(const Source*, const Source*, T, int64_t);
};

#define GRADIST_PRIMITIVES(NAME, TILE, TARGET)                                                     \
  template <typename Source>                                                                       \
  struct NAME {                                                                                    \
    using T = at::opmath_type<Source>;                                                             \
    static constexpr int64_t kLanes = TILE::kBytes / static_cast<int64_t>(sizeof(T));              \
    static constexpr int64_t kColumns = TILE::kVectors * kLanes;                                   \
    TARGET static void pack_rows(const Matrix<Source>& from, int64_t row, int64_t depth,           \
                                 int64_t column, int64_t count, T* to) {                           \
      pack<Source, T, TILE::kRows>(from, row, depth, column, count, to);                           \
    }                                                                                              \
    TARGET static void pack_columns(const Matrix<Source>& from, int64_t row, int64_t depth,        \
                                    int64_t column, int64_t count, T* to) {                        \
      pack<Source, T, kColumns>(from, row, depth, column, count, to);                              \
    }                                                                                              \
    TARGET static double form(const T* left, const T* right, int64_t depth, TilePosition position, \
                              T* partial, T* sum) {                                                \
      return form_tile<T, TILE>(left, right, depth, position, partial, sum);                       \
    }                                                                                              \
    TARGET static double gram(const Rows<T>& a_left, const Rows<T>& a_right,                       \
                              const Rows<T>& d_left, const Rows<T>& d_right, bool diagonal) {      \
      return gram_of_blocks<T, TILE>(a_left, a_right, d_left, d_right, diagonal);                  \
    }                                                                                              \
    TARGET static void rows(const Source* x, const Source* d, const T* mean, const T* rstd,        \
                            int64_t count, int64_t channels, T* scale, T* shift) {                 \
      add_rows<Source, T>(x, d, mean, rstd, count, channels, scale, shift);                        \
    }                                                                                              \
    TARGET static ChannelSums channel(const Source* x, const Source* d, T mean, int64_t count) {   \
      return channel_sums<Source, T>(x, d, mean, count);                                           \
    }                                                                                              \
    static constexpr Primitives<Source> kTable{                                                    \
        TILE::kRows, kColumns, kLanes, pack_rows, pack_columns, form, gram, rows, channel};        \
  };

GRADIST_PRIMITIVES(OnBaseline, Baseline, )
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
GRADIST_PRIMITIVES(OnAvx2, Avx2, GRADIST_AVX2)
GRADIST_PRIMITIVES(OnAvx512, Avx512, GRADIST_AVX512)
#endif

template <typename Source>
const Primitives<Source>& primitives() {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  static const auto capability = at::get_cpu_capability();
  if (capability == "AVX512") {
    return OnAvx512<Source>::kTable;
  }
  if (capability == "AVX2") {
    return OnAvx2<Source>::kTable;
  }
#endif
  return OnBaseline<Source>::kTable;
}

// ---- from tensors to tiles

/// The matrix of example i of a tensor [B, rows, columns].
template <typename Source>
Matrix<Source> example(const at::Tensor& tensor, int64_t i) {
  return {tensor.const_data_ptr<Source>() + i * tensor.stride(0), tensor.size(1), tensor.size(2),
          tensor.stride(1), tensor.stride(2)};
}

/// How [O, I] is cut into blocks and the examples into groups: from the shape alone.
struct Plan {
  int64_t examples, outputs, inputs, tile_rows, tile_columns;
  int64_t block_rows = std::min(kBlock, divided_up(outputs, tile_rows) * tile_rows);
  int64_t block_columns = std::min(kBlock, divided_up(inputs, tile_columns) * tile_columns);
  int64_t across = divided_up(inputs, block_columns);
  int64_t blocks = divided_up(outputs, block_rows) * across;
  int64_t group = divided_up(examples, std::min(examples, divided_up(kLeastItems, blocks)));
  int64_t groups = divided_up(examples, group);
};

/// One block of [O, I]: its place, and the loop over its register tiles.
struct Block {
  Block(const Plan& whole, int64_t index)
      : plan(whole),
        first_row(index / plan.across * plan.block_rows),
        first_column(index % plan.across * plan.block_columns),
        rows(std::min(plan.block_rows, plan.outputs - first_row)),
        columns(std::min(plan.block_columns, plan.inputs - first_column)) {}

  /// Calls visit(row panel, column panel, offset of the tile in the block's sum).
  template <typename Visit>
  void for_each_tile(const Visit& visit) const {
    int64_t offset = 0;
    for (int64_t column = 0; column * plan.tile_columns < columns; ++column) {
      for (int64_t row = 0; row * plan.tile_rows < rows; ++row) {
        visit(row, column, offset);
        offset += plan.tile_rows * plan.tile_columns;
      }
    }
  }

  const Plan& plan;
  int64_t first_row, first_column, rows, columns;
};

/// Room for one block's panels and unfinished tiles, [.] each; one a thread. Tensors, since their
/// memory is aligned to cache lines.
template <typename T>
struct Workspace {
  Workspace(const Plan& plan, int64_t positions) {
    const auto room = [](int64_t numbers) {
      return at::empty({numbers}, c10::CppTypeToScalarType<T>::value);
    };
    const auto depth = std::min(kDepth, positions);
    left_ = room(depth * plan.block_rows);
    right_ = room(depth * plan.block_columns);
    partial_ = room(depth < positions ? plan.block_rows * plan.block_columns : 0);
    left = left_.template data_ptr<T>();
    right = right_.template data_ptr<T>();
    partial = partial_.template data_ptr<T>();
  }
  T *left, *right, *partial;

 private:
  at::Tensor left_, right_, partial_;
};

/// ||.||^2 of one block of one g_i, which is added to the block's sum.
template <typename Source, typename T>
double form_block(const Primitives<Source>& run, const Block& block, const Matrix<Source>& a,
                  const Matrix<Source>& d, Workspace<T>& space, T* sum) {
  double squared_norm = 0;
  for (int64_t begin = 0; begin < a.rows; begin += kDepth) {
    const auto depth = std::min(kDepth, a.rows - begin);
    const TilePosition position{begin == 0, begin + depth == a.rows};
    run.pack_rows(d, begin, depth, block.first_row, block.rows, space.left);
    run.pack_columns(a, begin, depth, block.first_column, block.columns, space.right);
    block.for_each_tile([&](int64_t row, int64_t column, int64_t offset) {
      T* partial = space.partial == nullptr ? nullptr : space.partial + offset;
      squared_norm += run.form_tile(space.left + row * depth * run.tile_rows,
                                    space.right + column * depth * run.tile_columns, depth,
                                    position, partial, sum + offset);
    });
  }
  return squared_norm;
}

/// Adds a block's sum, kept tile by tile, to the matrix [O, I].
template <typename T>
void add_block_sum(const Block& block, const T* sum, T* matrix) {
  const auto& plan = block.plan;
  block.for_each_tile([&](int64_t row_panel, int64_t column_panel, int64_t offset) {
    const auto row = row_panel * plan.tile_rows, column = column_panel * plan.tile_columns;
    const auto rows = std::min(plan.tile_rows, block.rows - row);
    const auto columns = std::min(plan.tile_columns, block.columns - column);
    for (int64_t r = 0; r < rows; ++r) {
      auto* to = matrix + (block.first_row + row + r) * plan.inputs + block.first_column + column;
      for (int64_t c = 0; c < columns; ++c) {
        to[c] += sum[offset + r * plan.tile_columns + c];
      }
    }
  });
}

template <typename Source>
Formed form(const at::Tensor& a, const at::Tensor& d) {
  using T = at::opmath_type<Source>;
  const auto& run = primitives<Source>();
  const at::TensorOptions options = a.options().dtype(c10::CppTypeToScalarType<T>::value);
  const Plan plan{a.size(0), d.size(2), a.size(2), run.tile_rows, run.tile_columns};
  const auto block_size = plan.block_rows * plan.block_columns;
  at::Tensor sum = at::zeros({plan.outputs, plan.inputs}, options);
  at::Tensor norms = at::empty({plan.blocks, plan.examples}, options.dtype(at::kDouble));
  const at::Tensor block_sums = at::zeros({plan.groups, plan.blocks, block_size}, options);
  auto* block_sum = block_sums.data_ptr<T>();
  auto* norm = norms.data_ptr<double>();

  const auto work = plan.group * a.size(1) * block_size;
  at::parallel_for(0, plan.groups * plan.blocks, grain(work), [&](int64_t first, int64_t last) {
    Workspace<T> space(plan, a.size(1));
    for (int64_t item = first; item < last; ++item) {
      const auto b = item % plan.blocks;
      const Block block(plan, b);
      const auto begin = item / plan.blocks * plan.group;
      for (int64_t i = begin; i < std::min(begin + plan.group, plan.examples); ++i) {
        norm[b * plan.examples + i] =
            form_block(run, block, example<Source>(a, i), example<Source>(d, i), space,
                       block_sum + item * block_size);
      }
    }
  });
  for (int64_t item = 0; item < plan.groups * plan.blocks; ++item) {
    add_block_sum(Block(plan, item % plan.blocks), block_sum + item * block_size,
                  sum.data_ptr<T>());
  }
  return {norms.sum(0).to(options), sum};
}

/// Rows [begin, begin + count) of a factor in type T with lengths of whole vectors: the factor's
/// own memory where that will do, else a copy in `space`.
template <typename Source, typename T>
Rows<T> rows_of(const Matrix<Source>& factor, int64_t begin, int64_t count, int64_t lanes,
                std::vector<T>& space) {
  const auto rows = std::min(count, factor.rows - begin);
  const auto length = divided_up(factor.columns, lanes) * lanes;
  if constexpr (std::is_same_v<Source, T>) {
    if (factor.column_stride == 1 && length == factor.columns) {
      return {factor.at(begin, 0), rows, length, factor.row_stride};
    }
  }
  space.assign(static_cast<size_t>(rows * length), T(0));
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < factor.columns; ++c) {
      space[static_cast<size_t>(r * length + c)] = static_cast<T>(*factor.at(begin + r, c));
    }
  }
  return {space.data(), rows, length, length};
}

/// The blocks of one pair, from a running number of the pairs with left <= right.
struct BlockPair {
  int64_t left = 0, right = 0;
};
BlockPair block_pair(int64_t number, int64_t blocks) {
  BlockPair pair;
  for (; number >= blocks - pair.left; ++pair.left) {
    number -= blocks - pair.left;
  }
  pair.right = pair.left + number;
  return pair;
}

template <typename Source>
at::Tensor gram(const at::Tensor& a, const at::Tensor& d) {
  using T = at::opmath_type<Source>;
  const auto& run = primitives<Source>();
  const auto blocks = divided_up(a.size(1), kGramBlock), pairs = blocks * (blocks + 1) / 2;
  at::Tensor parts = at::empty({a.size(0), pairs}, a.options().dtype(at::kDouble));
  auto* part = parts.data_ptr<double>();
  const auto positions = std::min(kGramBlock, a.size(1));
  const auto work = positions * positions * (a.size(2) + d.size(2));
  at::parallel_for(0, a.size(0) * pairs, grain(work), [&](int64_t first, int64_t last) {
    std::vector<T> a_left, a_right, d_left, d_right;
    for (int64_t item = first; item < last; ++item) {
      const auto pair = block_pair(item % pairs, blocks);
      const auto rows = [&](const at::Tensor& factor, int64_t block, std::vector<T>& space) {
        return rows_of<Source, T>(example<Source>(factor, item / pairs), block * kGramBlock,
                                  kGramBlock, run.lanes, space);
      };
      part[item] = run.gram_block(rows(a, pair.left, a_left), rows(a, pair.right, a_right),
                                  rows(d, pair.left, d_left), rows(d, pair.right, d_right),
                                  pair.left == pair.right);
    }
  });
  return parts.sum(1).to(c10::CppTypeToScalarType<T>::value);
}

/// Forming costs the sum's own multiply-adds and, as much as about `kFormingOverhead` positions
/// would, packing and squaring; Gram matrices cost theirs on top of the sum, at about half the
/// speed.
bool forming_is_cheaper(const at::Tensor& a, const at::Tensor& d) {
  constexpr double kFormingOverhead = 24;
  const auto S = static_cast<double>(a.size(1)), I = static_cast<double>(a.size(2)),
             O = static_cast<double>(d.size(2));
  return kFormingOverhead * I * O < S * (S + 1) * (I + O);
}

template <typename Source>
ScaleShift row_norm(const at::Tensor& x, const at::Tensor& d, const at::Tensor& mean,
                    const at::Tensor& rstd) {
  using T = at::opmath_type<Source>;
  const auto& run = primitives<Source>();
  const auto examples = x.size(0), positions = x.size(1), channels = x.size(2);
  const at::TensorOptions options = x.options().dtype(c10::CppTypeToScalarType<T>::value);
  at::Tensor scale = at::empty({examples, channels}, options);
  at::Tensor shift = at::empty({examples, channels}, options);
  const auto* centre = mean.defined() ? mean.const_data_ptr<T>() : nullptr;
  at::parallel_for(0, examples, grain(16 * positions * channels), [&](int64_t first, int64_t last) {
    const auto width = static_cast<size_t>(channels);
    std::vector<T> part(2 * width);
    std::vector<double> total(2 * width);
    for (int64_t i = first; i < last; ++i) {
      std::fill(total.begin(), total.end(), 0.0);
      for (int64_t s = 0; s < positions; s += kNormRows) {
        const auto row = i * positions + s;
        std::fill(part.begin(), part.end(), T(0));
        run.add_rows(x.const_data_ptr<Source>() + row * channels,
                     d.const_data_ptr<Source>() + row * channels,
                     centre == nullptr ? nullptr : centre + row, rstd.const_data_ptr<T>() + row,
                     std::min(kNormRows, positions - s), channels, part.data(),
                     part.data() + width);
        for (size_t j = 0; j < part.size(); ++j) {
          total[j] += static_cast<double>(part[j]);
        }
      }
      for (size_t c = 0; c < width; ++c) {
        scale.data_ptr<T>()[static_cast<size_t>(i) * width + c] = static_cast<T>(total[c]);
        shift.data_ptr<T>()[static_cast<size_t>(i) * width + c] = static_cast<T>(total[width + c]);
      }
    }
  });
  return {scale, shift};
}

template <typename Source>
ScaleShift channel_norm(const at::Tensor& x, const at::Tensor& d, const at::Tensor& mean,
                        const at::Tensor& rstd) {
  using T = at::opmath_type<Source>;
  const auto& run = primitives<Source>();
  const auto examples = x.size(0), channels = x.size(1), positions = x.size(2);
  const at::TensorOptions options = x.options().dtype(c10::CppTypeToScalarType<T>::value);
  at::Tensor scale = at::empty({examples, channels}, options);
  at::Tensor shift = at::empty({examples, channels}, options);
  const auto place = [&](const at::Tensor& statistic, int64_t item) {
    return statistic.const_data_ptr<T>()[item % statistic.numel()];
  };
  at::parallel_for(0, examples * channels, grain(16 * positions), [&](int64_t first, int64_t last) {
    for (int64_t item = first; item < last; ++item) {
      const auto sums = run.channel_sums(x.const_data_ptr<Source>() + item * positions,
                                         d.const_data_ptr<Source>() + item * positions,
                                         place(mean, item), positions);
      scale.data_ptr<T>()[item] =
          static_cast<T>(sums.product * static_cast<double>(place(rstd, item)));
      shift.data_ptr<T>()[item] = static_cast<T>(sums.backprop);
    }
  });
  return {scale, shift};
}

}  // namespace

#define GRADIST_DISPATCH(TYPE, ...) \
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, TYPE, "gradist::kernels", __VA_ARGS__)

at::Tensor gram_squared_norms(const at::Tensor& activations, const at::Tensor& backprops) {
  return GRADIST_DISPATCH(activations.scalar_type(),
                          [&] { return gram<scalar_t>(activations, backprops); });
}

Formed formed_squared_norms(const at::Tensor& activations, const at::Tensor& backprops) {
  if (forming_is_cheaper(activations, backprops)) {
    return GRADIST_DISPATCH(activations.scalar_type(),
                            [&] { return form<scalar_t>(activations, backprops); });
  }
  const auto dtype = at::toOpMathType(activations.scalar_type());
  return {gram_squared_norms(activations, backprops),
          at::mm(backprops.flatten(0, 1).to(dtype).t(), activations.flatten(0, 1).to(dtype))};
}

ScaleShift row_norm_gradients(const at::Tensor& x, const at::Tensor& backprops,
                              const at::Tensor& mean, const at::Tensor& rstd) {
  return GRADIST_DISPATCH(x.scalar_type(), [&] {
    return row_norm<scalar_t>(x.contiguous(), backprops.contiguous(), mean, rstd);
  });
}

ScaleShift channel_norm_gradients(const at::Tensor& x, const at::Tensor& backprops,
                                  const at::Tensor& mean, const at::Tensor& rstd) {
  return GRADIST_DISPATCH(x.scalar_type(), [&] {
    return channel_norm<scalar_t>(x.contiguous(), backprops.contiguous(), mean, rstd);
  });
}

void add_segment(const at::Tensor& segment_sum, const at::Tensor& segment_squares,
                 const SegmentWeights& weights, const RunningSums& sums,
                 const at::Tensor& squared_norm) {
  AT_DISPATCH_FLOATING_TYPES(segment_sum.scalar_type(), "gradist::kernels", [&] {
    const auto sum = segment_sum.contiguous();
    const auto squares = segment_squares.defined() ? segment_squares.contiguous() : segment_squares;
    *squared_norm.data_ptr<double>() =
        add_segment<scalar_t>(sum.const_data_ptr<scalar_t>(),
                              squares.defined() ? squares.const_data_ptr<scalar_t>() : nullptr,
                              sum.numel(), weights, sums);
  });
}

}  // namespace gradist::kernels::cpu
