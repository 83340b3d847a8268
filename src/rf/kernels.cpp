// Compiled once a level (CMakeLists.txt), with GRADIST_RF_KERNELS naming the table it defines and
// GRADIST_RF_LEVEL the level. Includes nothing with inline functions: the linker keeps one copy of
// those, and it might be the one for another processor.

#include "rf/kernels.h"

namespace gradist::rf::detail {

namespace {

// The processor's own vectors. Everything is laid out for 64 bytes, kParts of them.
#if defined(__AVX512F__)
constexpr int64_t kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int64_t kVectorBytes = 32;
#else
constexpr int64_t kVectorBytes = 16;
#endif
constexpr int64_t kRowBytes = 64;
constexpr int kParts = kRowBytes / kVectorBytes;

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
};
template <class T>
using Vector = typename VectorOf<T>::type;

using Floats = Vector<float>;
typedef int32_t Ints __attribute__((vector_size(kVectorBytes)));
typedef uint32_t Unsigneds __attribute__((vector_size(kVectorBytes)));
typedef uint64_t Longs __attribute__((vector_size(kVectorBytes)));

/// Numbers in a vector, and in 64 bytes.
template <class T>
constexpr int64_t kWidth = kVectorBytes / static_cast<int64_t>(sizeof(T));
template <class T>
constexpr int64_t kRowWidth = kRowBytes / static_cast<int64_t>(sizeof(T));

template <class T>
const Vector<T>& at(const T* place) {
  return *reinterpret_cast<const Vector<T>*>(place);
}
template <class T>
Vector<T>& at(T* place) {
  return *reinterpret_cast<Vector<T>*>(place);
}

/// The sum of 64 bytes of numbers, in one order whatever the vectors.
template <class T>
double sum_of(const Vector<T> (&parts)[kParts]) {
  T lanes[kRowWidth<T>];
  for (int p = 0; p < kParts; ++p) {
    for (int64_t l = 0; l < kWidth<T>; ++l) {
      lanes[p * kWidth<T> + l] = parts[p][l];
    }
  }
  for (int64_t half = kRowWidth<T> / 2; half > 0; half /= 2) {
    for (int64_t l = 0; l < half; ++l) {
      lanes[l] += lanes[l + half];
    }
  }
  return static_cast<double>(lanes[0]);
}

/// Inner products of R rows with V vectors, in registers: out[r, v] at out[r * count + v].
template <class T, int R, int V>
inline void dot_tile(const T* psi, int64_t stride, const int32_t* index, const T* v, int64_t count,
                     double* out) {
  Vector<T> sum[R][V][kParts] = {};
  for (int64_t j = 0; j < stride; j += kRowWidth<T>) {
#pragma GCC unroll 4
    for (int p = 0; p < kParts; ++p) {
      Vector<T> vectors[V];
#pragma GCC unroll 8
      for (int k = 0; k < V; ++k) {
        vectors[k] = at(v + k * stride + j + p * kWidth<T>);
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const Vector<T> numbers = at(psi + index[r] * stride + j + p * kWidth<T>);
#pragma GCC unroll 8
        for (int k = 0; k < V; ++k) {
          sum[r][k][p] += numbers * vectors[k];
        }
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int k = 0; k < V; ++k) {
      out[r * count + k] = sum_of<T>(sum[r][k]);
    }
  }
}

// As many rows and vectors together as sums fit into the registers.
constexpr int kDotRows = kParts == 1 ? 4 : kParts == 2 ? 2 : 1;
constexpr int kDotVectors = kParts == 1 ? 5 : kParts == 2 ? 3 : 2;

template <class T, int R>
void dots_of_rows(const T* psi, int64_t stride, const int32_t* index, const T* v, int64_t count,
                  double* out) {
  int64_t k = 0;
  for (; k + kDotVectors <= count; k += kDotVectors) {
    dot_tile<T, R, kDotVectors>(psi, stride, index, v + k * stride, count, out + k);
  }
  for (; k < count; ++k) {
    dot_tile<T, R, 1>(psi, stride, index, v + k * stride, count, out + k);
  }
}

template <class T>
void dots_many(const T* psi, int64_t stride, const int32_t* index, int64_t n, const T* v,
               int64_t count, double* out) {
  int64_t i = 0;
  for (; i + kDotRows <= n; i += kDotRows) {
    dots_of_rows<T, kDotRows>(psi, stride, index + i, v, count, out + i * count);
  }
  for (; i < n; ++i) {
    dots_of_rows<T, 1>(psi, stride, index + i, v, count, out + i * count);
  }
}

/// Four rows at a time hide the latency of an addition.
template <class T>
void dots(const T* psi, int64_t stride, const int32_t* index, int64_t n, const T* w, double* out) {
  constexpr int kTogether = kParts == 4 ? 2 : 4;
  int64_t i = 0;
  for (; i + kTogether <= n; i += kTogether) {
    dot_tile<T, kTogether, 1>(psi, stride, index + i, w, 1, out + i);
  }
  for (; i < n; ++i) {
    dot_tile<T, 1, 1>(psi, stride, index + i, w, 1, out + i);
  }
}

template <class T>
void combine(const T* psi, int64_t stride, const int32_t* index, int64_t n, const T* c, T scale,
             T* w) {
  for (int64_t j = 0; j < stride; j += kWidth<T>) {
    Vector<T> sum = at(w + j) * scale;
    for (int64_t i = 0; i < n; ++i) {
      sum += c[i] * at(psi + index[i] * stride + j);
    }
    at(w + j) = sum;
  }
}

/// As many numbers as a vector of float64 has, in float64.
inline Vector<double> widened(const double* place) { return at(place); }
inline Vector<double> widened(const float* place) {
  typedef float Half __attribute__((vector_size(kVectorBytes / 2)));
  return __builtin_convertvector(*reinterpret_cast<const Half*>(place), Vector<double>);
}

template <class T>
inline void add_to(double* sums, const Vector<T>& values) {
  alignas(kRowBytes) T numbers[kWidth<T>];
  at(numbers) = values;
  for (int64_t l = 0; l < kWidth<T>; l += kWidth<double>) {
    at(sums + l) += widened(numbers + l);
  }
}

/// The sums at W vectors of coordinates from j on.
template <class T, int A, int B, int W>
inline void accumulate_columns(int64_t j, const T* psi, int64_t stride, const int32_t* index,
                               int64_t n, const T* a, double* first, const T* b, double* second) {
  Vector<T> sum_a[A][W] = {};
  Vector<T> sum_b[B > 0 ? B : 1][W] = {};
  for (int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w) {
      const Vector<T> row = at(psi + index[i] * stride + j + w * kWidth<T>);
      const Vector<T> square = row * row;
#pragma GCC unroll 2
      for (int s = 0; s < A; ++s) {
        sum_a[s][w] += a[s * kBlock + i] * row;
      }
#pragma GCC unroll 5
      for (int s = 0; s < B; ++s) {
        sum_b[s][w] += b[s * kBlock + i] * square;
      }
    }
  }
  for (int w = 0; w < W; ++w) {
    const int64_t place = j + w * kWidth<T>;
    for (int s = 0; s < A; ++s) {
      add_to<T>(first + s * stride + place, sum_a[s][w]);
    }
    for (int s = 0; s < B; ++s) {
      add_to<T>(second + s * stride + place, sum_b[s][w]);
    }
  }
}

template <class T, int A, int B>
void accumulate_sums(const T* psi, int64_t stride, const int32_t* index, int64_t n, const T* a,
                     double* first, const T* b, double* second) {
  // A row is read in long stretches, as far as the sums fit into the registers.
  constexpr int kTogether = A + B <= 2 ? 4 : kParts == 1 ? 2 : 1;
  int64_t j = 0;
  for (; j + kTogether * kWidth<T> <= stride; j += kTogether * kWidth<T>) {
    accumulate_columns<T, A, B, kTogether>(j, psi, stride, index, n, a, first, b, second);
  }
  for (; j < stride; j += kWidth<T>) {
    accumulate_columns<T, A, B, 1>(j, psi, stride, index, n, a, first, b, second);
  }
}

template <class T>
void accumulate(const T* psi, int64_t stride, const int32_t* index, int64_t n, int64_t firsts,
                const T* a, double* first, int64_t seconds, const T* b, double* second) {
  using Function = decltype(&accumulate_sums<T, 1, 0>);
  static constexpr Function kTable[kMaxFirst][kMaxSecond + 1] = {
      {accumulate_sums<T, 1, 0>, accumulate_sums<T, 1, 1>, accumulate_sums<T, 1, 2>,
       accumulate_sums<T, 1, 3>, accumulate_sums<T, 1, 4>, accumulate_sums<T, 1, 5>},
      {accumulate_sums<T, 2, 0>, accumulate_sums<T, 2, 1>, accumulate_sums<T, 2, 2>,
       accumulate_sums<T, 2, 3>, accumulate_sums<T, 2, 4>, accumulate_sums<T, 2, 5>}};
  kTable[firsts - 1][seconds](psi, stride, index, n, a, first, b, second);
}

/// High and low words of x times a constant, lane by lane.
inline void multiply_words(const Unsigneds& x, uint32_t constant, Unsigneds& high, Unsigneds& low) {
  const Longs pairs = (Longs)x;
  const Longs even = (pairs & 0xffffffffU) * constant;
  const Longs odd = (pairs >> 32) * constant;
  low = (Unsigneds)((even & 0xffffffffU) | (odd << 32));
  high = (Unsigneds)((even >> 32) | (odd & 0xffffffff00000000U));
}

/// Philox4x32-10 (philox.h) at the columns column, column + 1, ..., one a lane.
inline void philox(uint64_t seed, uint32_t stream, uint32_t row, uint32_t column,
                   Unsigneds (&words)[4]) {
  for (int64_t l = 0; l < kWidth<float>; ++l) {
    words[0][l] = column + static_cast<uint32_t>(l);
  }
  words[1] = Unsigneds{} + row;
  words[2] = Unsigneds{} + stream;
  words[3] = Unsigneds{};
  auto k0 = static_cast<uint32_t>(seed);
  auto k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    Unsigneds high0, low0, high1, low1;
    multiply_words(words[0], 0xD2511F53U, high0, low0);
    multiply_words(words[2], 0xCD9E8D57U, high1, low1);
    words[0] = high1 ^ words[1] ^ k0;
    words[1] = low1;
    words[2] = high0 ^ words[3] ^ k1;
    words[3] = low0;
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
}

/// log u of u = (m + 1/2) 2^-23, m the word's 23 high bits, which float32 holds exactly: exponent,
/// and the series of log((1 + s) / (1 - s)) for a mantissa in [1/sqrt 2, sqrt 2].
inline Floats log_uniform(const Unsigneds& word) {
  constexpr int32_t kRootHalf = 0x3f3504f3;  // the bits of 1/sqrt 2
  const Floats u = (__builtin_convertvector((Ints)(word >> 9), Floats) + 0.5F) * 0x1p-23F;
  const Ints bits = (Ints)u - kRootHalf;
  const Floats exponent = __builtin_convertvector(bits >> 23, Floats);
  const Floats mantissa = (Floats)((bits & 0x007fffff) + kRootHalf);
  const Floats s = (mantissa - 1.0F) / (mantissa + 1.0F);
  const Floats t = s * s;
  const Floats series =
      s * (2.0F + t * (2.0F / 3 + t * (2.0F / 5 + t * (2.0F / 7 + t * (2.0F / 9)))));
  return exponent * 0.693147181F + series;
}

/// sin and cos of the angle 2 pi word / 2^32: the quadrant, and Taylor series on [-pi/4, pi/4].
inline void sine_and_cosine(const Unsigneds& word, Floats& sine, Floats& cosine) {
  const Unsigneds turned = word + 0x20000000U;
  const Unsigneds quadrant = turned >> 30;
  const Ints rest = (Ints)(turned & 0x3fffffffU) - 0x20000000;
  const Floats x = __builtin_convertvector(rest, Floats) * (1.57079633F * 0x1p-30F);
  const Floats t = x * x;
  const Floats s =
      x * (1.0F + t * (-1.0F / 6 + t * (1.0F / 120 + t * (-1.0F / 5040 + t * (1.0F / 362880)))));
  const Floats c = 1.0F + t * (-0.5F + t * (1.0F / 24 + t * (-1.0F / 720 + t * (1.0F / 40320))));
  const Ints odd = (quadrant & 1U) == 1U;
  const Unsigneds sine_sign = (quadrant & 2U) << 30;
  const Unsigneds cosine_sign = ((quadrant + 1U) & 2U) << 30;
  sine = (Floats)((Unsigneds)(odd ? c : s) ^ sine_sign);
  cosine = (Floats)((Unsigneds)(odd ? s : c) ^ cosine_sign);
}

inline Floats root(const Floats& x) {
  Floats result;
  for (int64_t l = 0; l < kWidth<float>; ++l) {
    result[l] = __builtin_sqrtf(x[l]);
  }
  return result;
}

void normals(uint64_t seed, uint32_t stream, uint32_t row, int64_t count, float* out) {
  for (int64_t j = 0; j < count; j += 4 * kLanes) {
    for (int64_t part = 0; part < kLanes; part += kWidth<float>) {
      Unsigneds words[4];
      philox(seed, stream, row, static_cast<uint32_t>(j / 4 + part), words);
      for (int pair = 0; pair < 2; ++pair) {
        const Floats radius = root(-2.0F * log_uniform(words[2 * pair]));
        Floats sine, cosine;
        sine_and_cosine(words[2 * pair + 1], sine, cosine);
        float* place = out + j + 2 * pair * kLanes + part;
        at(place) = radius * cosine;
        at(place + kLanes) = radius * sine;
      }
    }
  }
}

// A tile of products lives in registers: 32 of them at v4, 16 below. kTileVectors vectors of units.
#if defined(__AVX512F__)
constexpr int kTileRows = 12, kTileVectors = 2;
#elif defined(__AVX2__)
constexpr int kTileRows = 6, kTileVectors = 2;
#else
constexpr int kTileRows = 3, kTileVectors = 4;
#endif
constexpr int kTilePanels = kTileVectors / kParts;

/// Where vector v of a tile's units begins in packed b.
inline int64_t place_of(int v, int64_t k, int64_t b_depth) {
  return (v / kParts * b_depth + k) * kLanes + v % kParts * kWidth<float>;
}

void multiply_tile(const float* a, const float* b, int64_t b_depth, int64_t depth, float* c,
                   int64_t c_stride) {
  Floats sum[kTileRows][kTileVectors];
#pragma GCC unroll 12
  for (int m = 0; m < kTileRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      sum[m][v] = at(c + m * c_stride + v * kWidth<float>);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Floats units[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      units[v] = at(b + place_of(v, k, b_depth));
    }
#pragma GCC unroll 12
    for (int m = 0; m < kTileRows; ++m) {
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) {
        sum[m][v] += a[k * kTileRows + m] * units[v];
      }
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < kTileRows; ++m) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) {
      at(c + m * c_stride + v * kWidth<float>) = sum[m][v];
    }
  }
}

void multiply(const float* a, int64_t tiles, const float* b, int64_t panels, int64_t b_depth,
              int64_t depth, float* c, int64_t c_stride) {
  for (int64_t p = 0; p < panels; p += kTilePanels) {
    for (int64_t tile = 0; tile < tiles; ++tile) {
      multiply_tile(a + tile * depth * kTileRows, b + p * b_depth * kLanes, b_depth, depth,
                    c + tile * kTileRows * c_stride + p * kLanes, c_stride);
    }
  }
}

template <class T>
constexpr RowKernels<T> kRowKernels = {dots<T>, dots_many<T>, combine<T>, accumulate<T>};

}  // namespace

extern const Kernels GRADIST_RF_KERNELS;
const Kernels GRADIST_RF_KERNELS = {GRADIST_RF_LEVEL, kRowKernels<float>, kRowKernels<double>,
                                    normals,          multiply,           kTileRows};

}  // namespace gradist::rf::detail
