#pragma once

#include <cstdint>

/// The loops that take the time, compiled once for each x86-64 level and chosen at run time.
/// Internal.
///
/// psi [N, stride] holds the rows [phi_i; 1; 0 ... 0], aligned to 64 bytes; `stride` is a multiple
/// of kLanes. `index` [n] names the rows a call is about. Vectors (w, v, sums) are as long as a row
/// and padded with zeros alike. Sums have a fixed order that neither the number of threads nor the
/// width of the processor's vectors changes; what differs between levels is whether a product is
/// rounded before it is added (below v3).
namespace gradist::rf::detail {

/// Numbers in a vector of 64 bytes of float32: what rows are padded to.
inline constexpr int64_t kLanes = 16;

/// Rows summed in T before the sum goes into float64.
inline constexpr int64_t kBlock = 64;

/// Sums of one pass, at most: sum_i a_i psi_i and sum_i b_i psi_i^2.
inline constexpr int64_t kMaxFirst = 2, kMaxSecond = 5;

template <class T>
struct RowKernels {
  /// out[i] = <psi_i, w>, [n].
  void (*dots)(const T* psi, int64_t stride, const int32_t* index, int64_t n, const T* w,
               double* out);

  /// out[i, k] = <psi_i, v_k>, [n, count].
  void (*dots_many)(const T* psi, int64_t stride, const int32_t* index, int64_t n, const T* v,
                    int64_t count, double* out);

  /// w = scale w + sum_i c_i psi_i.
  void (*combine)(const T* psi, int64_t stride, const int32_t* index, int64_t n, const T* c,
                  T scale, T* w);

  /// first[s] += sum_i a[s, i] psi_i and second[s] += sum_i b[s, i] psi_i^2 for n <= kBlock rows;
  /// a [firsts, kBlock], b [seconds, kBlock], the sums [., stride] in float64.
  void (*accumulate)(const T* psi, int64_t stride, const int32_t* index, int64_t n, int64_t firsts,
                     const T* a, double* first, int64_t seconds, const T* b, double* second);
};

struct Kernels {
  const char* name;  ///< x86-64-v4
  RowKernels<float> single;
  RowKernels<double> full;

  /// out[j] for j < count (a multiple of 64): the normal number at (row, j) of a stream of a seed,
  /// by [Box58] from 23-bit uniforms. Word w of the block (row, 16 q + l) makes column
  /// 64 q + 16 w + l.
  void (*normals)(uint64_t seed, uint32_t stream, uint32_t row, int64_t count, float* out);

  /// c[m, u] += sum_k a[m, k] b[u, k] for packed operands: a in tiles of `tile_rows` rows
  /// [tiles][depth][tile_rows], b in panels of kLanes units [panels][b_depth][kLanes], of which
  /// `depth` steps are taken; c [tiles * tile_rows, c_stride]. `panels` is even.
  void (*multiply)(const float* a, int64_t tiles, const float* b, int64_t panels, int64_t b_depth,
                   int64_t depth, float* c, int64_t c_stride);
  int64_t tile_rows;
};

/// The best level this processor has.
const Kernels& kernels();

/// The levels this processor has, the best one first; tests compare them.
const Kernels* const* available_kernels(int64_t& count);

template <class T>
const RowKernels<T>& row_kernels(const Kernels& all);
template <>
inline const RowKernels<float>& row_kernels<float>(const Kernels& all) {
  return all.single;
}
template <>
inline const RowKernels<double>& row_kernels<double>(const Kernels& all) {
  return all.full;
}

}  // namespace gradist::rf::detail
