#include "gradients/kernels_cpu.h"

#include "gradients/tensor_formation.h"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <numeric>
#include <vector>

// Products go through torch's BLAS, one after the other into memory that stays in cache. What torch
// has no operation for is written once as plain loops and inlined into one function for each
// instruction set; torch's own choice (ATEN_CPU_CAPABILITY) says which one runs.
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

/// Numbers of one block of products: written by BLAS and read again while they are in L2.
constexpr int64_t kBlockNumbers = int64_t{1} << 17;

/// Positions of one Gram tile.
constexpr int64_t kGramPositions = 256;

/// Numbers summed in T before their sum goes to float64.
constexpr int64_t kRun = 4096;

/// Multiply-adds worth a thread.
constexpr int64_t kGrain = int64_t{1} << 20;

/// Rows whose terms are summed in T before they go to float64.
constexpr int64_t kNormRows = 128;

/// Numbers worth a thread where each is read once: memory is the limit then.
constexpr int64_t kReadGrain = int64_t{1} << 15;

/// Items for one thread at least, each of `work` multiply-adds.
int64_t grain(int64_t work, int64_t worth_a_thread = kGrain) {
  return at::divup(worth_a_thread, std::max<int64_t>(1, work));
}

// ---- blocks of products

/// Independent partial sums, enough for the vectors of every instruction set.
constexpr int64_t kLanes = 64;

/// sum_j x_j y_j, runs of kRun numbers in T.
template <typename T>
GRADIST_INLINE double inner_product(const T* x, const T* y, int64_t count) {
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kRun) {
    const auto end = std::min(begin + kRun, count);
    T sums[kLanes] = {};
    int64_t j = begin;
    for (; j + kLanes <= end; j += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        sums[lane] += x[j + lane] * y[j + lane];
      }
    }
    for (; j < end; ++j) {
      sums[j % kLanes] += x[j] * y[j];
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      total += static_cast<double>(sums[lane]);
    }
  }
  return total;
}

/// Adds x to `sum`, and returns ||x||^2.
template <typename T>
GRADIST_INLINE double add_and_square(const T* x, int64_t count, T* __restrict sum) {
  double total = 0;
  for (int64_t begin = 0; begin < count; begin += kRun) {
    const auto end = std::min(begin + kRun, count);
    T squares[kLanes] = {};
    int64_t j = begin;
    for (; j + kLanes <= end; j += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        squares[lane] += x[j + lane] * x[j + lane];
        sum[j + lane] += x[j + lane];
      }
    }
    for (; j < end; ++j) {
      squares[j % kLanes] += x[j] * x[j];
      sum[j] += x[j];
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      total += static_cast<double>(squares[lane]);
    }
  }
  return total;
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
  constexpr int64_t kRounds = 32;
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
  if (weights.whole && squares == nullptr) {
#pragma omp simd reduction(+ : squared_norm)
    for (int64_t j = 0; j < count; ++j) {
      const auto total = static_cast<double>(segment_sum[j]);
      sum[j] += weights.visit * total;
      squared_norm += total * total;
    }
    return weights.last ? squared_norm : 0.0;
  }
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
  double (*inner_product)(const T*, const T*, int64_t);
  double (*add_and_square)(const T*, int64_t, T*);
  void (*add_rows)(const Source*, const Source*, const T*, const T*, int64_t, int64_t, T*, T*);
  ChannelSums (*channel_sums)(const Source*, const Source*, T, int64_t);
};

#define GRADIST_PRIMITIVES(NAME, TARGET)                                                         \
  template <typename Source>                                                                     \
  struct NAME {                                                                                  \
    using T = at::opmath_type<Source>;                                                           \
    TARGET static double product(const T* x, const T* y, int64_t count) {                        \
      return inner_product<T>(x, y, count);                                                      \
    }                                                                                            \
    TARGET static double add(const T* x, int64_t count, T* sum) {                                \
      return add_and_square<T>(x, count, sum);                                                   \
    }                                                                                            \
    TARGET static void rows(const Source* x, const Source* d, const T* mean, const T* rstd,      \
                            int64_t count, int64_t channels, T* scale, T* shift) {               \
      add_rows<Source, T>(x, d, mean, rstd, count, channels, scale, shift);                      \
    }                                                                                            \
    TARGET static ChannelSums channel(const Source* x, const Source* d, T mean, int64_t count) { \
      return channel_sums<Source, T>(x, d, mean, count);                                         \
    }                                                                                            \
    static constexpr Primitives<Source> kTable{product, add, rows, channel};                     \
  };

GRADIST_PRIMITIVES(OnBaseline, )
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
GRADIST_PRIMITIVES(OnAvx2, GRADIST_AVX2)
GRADIST_PRIMITIVES(OnAvx512, GRADIST_AVX512)
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

// ---- from tensors to blocks

/// How the gradients of `examples` examples, [O, I] each, are formed: a few examples or a few rows
/// of one at a time.
struct FormedBlocks {
  FormedBlocks(int64_t outputs, int64_t inputs)
      : examples(std::max<int64_t>(1, kBlockNumbers / (outputs * inputs))),
        rows(std::clamp<int64_t>(kBlockNumbers / inputs, 1, outputs)) {}
  int64_t examples, rows;
};

/// Examples [begin, end): their squared norms are added to `norms`, their sum to `sum` [O, I].
template <typename T>
void form_examples(const at::Tensor& a, const at::Tensor& d, int64_t begin, int64_t end,
                   const Primitives<T>& run, double* norms, T* sum) {
  const auto outputs = d.size(2), inputs = a.size(2);
  const FormedBlocks blocks(outputs, inputs);
  auto space = at::empty({blocks.examples * blocks.rows * inputs}, a.options());
  for (int64_t first = begin; first < end; first += blocks.examples) {
    const auto count = std::min(blocks.examples, end - first);
    const auto activations = a.narrow(0, first, count), backprops = d.narrow(0, first, count);
    for (int64_t row = 0; row < outputs; row += blocks.rows) {
      const auto rows = std::min(blocks.rows, outputs - row);
      auto formed = space.narrow(0, 0, count * rows * inputs).view({count, rows, inputs});
      at::bmm_out(formed, backprops.narrow(2, row, rows).transpose(1, 2), activations);
      for (int64_t i = 0; i < count; ++i) {
        norms[first + i] += run.add_and_square(formed.const_data_ptr<T>() + i * rows * inputs,
                                               rows * inputs, sum + row * inputs);
      }
    }
  }
}

/// Threads take contiguous parts of the examples, each with a sum of its own.
template <typename T>
Formed form(const at::Tensor& a, const at::Tensor& d) {
  const auto examples = a.size(0), outputs = d.size(2), inputs = a.size(2);
  const auto parts = std::min<int64_t>(at::get_num_threads(), examples);
  auto norms = at::zeros({examples}, a.options().dtype(at::kDouble));
  auto sums = at::zeros({parts, outputs, inputs}, a.options());
  auto* norm = norms.template data_ptr<double>();
  auto* sum = sums.template data_ptr<T>();
  at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    const at::NoGradGuard in_this_thread;
    for (int64_t part = first; part < last; ++part) {
      form_examples<T>(a, d, part * examples / parts, (part + 1) * examples / parts,
                       primitives<T>(), norm, sum + part * outputs * inputs);
    }
  });
  return {norms.to(a.scalar_type()), parts == 1 ? sums.squeeze(0) : sums.sum(0)};
}

/// In how many ranges of columns threads share these numbers.
int64_t column_parts(int64_t rows, int64_t columns) {
  const auto most = std::min<int64_t>(at::get_num_threads(), at::divup(columns, kLanes));
  return std::clamp<int64_t>(rows * columns / kReadGrain, 1, std::max<int64_t>(1, most));
}

/// Calls `work(part, begin, end)` for ranges of columns, a thread each.
template <typename Work>
void in_column_parts(int64_t parts, int64_t columns, const Work& work) {
  at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) {
      work(part, part * columns / parts, (part + 1) * columns / parts);
    }
  });
}

/// [parts, examples] -> [examples], in the factors' type.
template <typename T>
at::Tensor summed_parts(const std::vector<double>& norms, int64_t examples,
                        const at::TensorOptions& options) {
  auto total = at::empty({examples}, options);
  for (int64_t i = 0; i < examples; ++i) {
    double norm = 0;
    for (auto at = static_cast<size_t>(i); at < norms.size(); at += static_cast<size_t>(examples)) {
      norm += norms[at];
    }
    total.template data_ptr<T>()[i] = static_cast<T>(norm);
  }
  return total;
}

template <typename T>
at::Tensor square_rows(const at::Tensor& rows) {
  const auto& run = primitives<T>();
  const auto columns = rows.size(1);
  auto norms = at::empty({rows.size(0)}, rows.options());
  at::parallel_for(0, rows.size(0), grain(columns, kReadGrain), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const auto* row = rows.const_data_ptr<T>() + i * columns;
      norms.template data_ptr<T>()[i] = static_cast<T>(run.inner_product(row, row, columns));
    }
  });
  return norms;
}

template <typename T>
Formed add_rows_up(const at::Tensor& rows) {
  const auto& run = primitives<T>();
  const auto count = rows.size(0), columns = rows.size(1);
  const auto parts = column_parts(count, columns);
  std::vector<double> norms(static_cast<size_t>(parts * count));
  auto sum = at::zeros({columns}, rows.options());
  const auto* from = rows.const_data_ptr<T>();
  auto* to = sum.template data_ptr<T>();
  in_column_parts(parts, columns, [&](int64_t part, int64_t begin, int64_t end) {
    for (int64_t i = 0; i < count; ++i) {
      norms[static_cast<size_t>(part * count + i)] =
          run.add_and_square(from + i * columns + begin, end - begin, to + begin);
    }
  });
  return {summed_parts<T>(norms, count, rows.options()), sum};
}

/// Positions of one example, those with the same token next to each other.
std::vector<int64_t> by_token(const int64_t* tokens, int64_t positions) {
  std::vector<int64_t> order(static_cast<size_t>(positions));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t left, int64_t right) { return tokens[left] < tokens[right]; });
  return order;
}

template <typename T>
Formed add_tokens_up(const at::Tensor& tokens, const at::Tensor& d, int64_t count) {
  const auto& run = primitives<T>();
  const auto examples = d.size(0), positions = d.size(1), width = d.size(2);
  const auto parts = column_parts(examples * positions, width);
  std::vector<double> norms(static_cast<size_t>(parts * examples));
  auto sum = at::zeros({count, width}, d.options());
  const auto work = [&](int64_t part, int64_t begin, int64_t end) {
    std::vector<T> row(static_cast<size_t>(end - begin));
    for (int64_t i = 0; i < examples; ++i) {
      const auto* token = tokens.const_data_ptr<int64_t>() + i * positions;
      const auto order = by_token(token, positions);
      auto& norm = norms[static_cast<size_t>(part * examples + i)];
      for (auto p = order.begin(); p != order.end();) {
        const auto here = token[*p];
        const auto numbers = [&] {
          return d.const_data_ptr<T>() + (i * positions + *p) * width + begin;
        };
        const T* total = numbers();
        if (++p != order.end() && token[*p] == here) {
          row.assign(total, total + (end - begin));
          for (; p != order.end() && token[*p] == here; ++p) {
            run.add_and_square(numbers(), end - begin, row.data());
          }
          total = row.data();
        }
        norm += run.add_and_square(total, end - begin,
                                   sum.template data_ptr<T>() + here * width + begin);
      }
    }
  };
  in_column_parts(parts, width, work);
  return {summed_parts<T>(norms, examples, d.options()), sum};
}

/// The tiles of one pair, from a running number of the pairs with left <= right.
struct TilePair {
  int64_t left = 0, right = 0;
};
TilePair tile_pair(int64_t number, int64_t tiles) {
  TilePair pair;
  for (; number >= tiles - pair.left; ++pair.left) {
    number -= tiles - pair.left;
  }
  pair.right = pair.left + number;
  return pair;
}

template <typename T>
at::Tensor gram(const at::Tensor& a, const at::Tensor& d) {
  const auto& run = primitives<T>();
  const auto positions = a.size(1);
  const auto tiles = at::divup(positions, kGramPositions), pairs = tiles * (tiles + 1) / 2;
  at::Tensor parts = at::empty({a.size(0), pairs}, a.options().dtype(at::kDouble));
  auto* part = parts.data_ptr<double>();
  const auto side = std::min(kGramPositions, positions);
  const auto work = side * side * (a.size(2) + d.size(2));
  at::parallel_for(0, a.size(0) * pairs, grain(work), [&](int64_t first, int64_t last) {
    const at::NoGradGuard in_this_thread;
    auto space = at::empty({2, side * side}, a.options());
    for (int64_t item = first; item < last; ++item) {
      const auto pair = tile_pair(item % pairs, tiles);
      const auto products = [&](const at::Tensor& factor, int64_t which) {
        const auto rows = [&](int64_t tile) {
          const auto begin = tile * kGramPositions;
          return factor.select(0, item / pairs)
              .narrow(0, begin, std::min(kGramPositions, positions - begin));
        };
        const auto left = rows(pair.left), right = rows(pair.right);
        auto made = space.select(0, which)
                        .narrow(0, 0, left.size(0) * right.size(0))
                        .view({left.size(0), right.size(0)});
        at::mm_out(made, left, right.t());
        return made;
      };
      const auto of_activations = products(a, 0), of_backprops = products(d, 1);
      part[item] =
          (pair.left == pair.right ? 1 : 2) *
          run.inner_product(of_activations.template const_data_ptr<T>(),
                            of_backprops.template const_data_ptr<T>(), of_activations.numel());
    }
  });
  return parts.sum(1).to(a.scalar_type());
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
  return AT_DISPATCH_FLOATING_TYPES(activations.scalar_type(), "gradist::kernels",
                                    [&] { return gram<scalar_t>(activations, backprops); });
}

Formed formed_squared_norms(const at::Tensor& activations, const at::Tensor& backprops,
                            bool with_sum, Multiplier multiplier) {
  if (detail::can_form_positions(activations, backprops)) {
    auto formed =
        detail::form_positions_norms_and_sum(activations, backprops, with_sum, multiplier);
    formed.squared_norms = formed.squared_norms.to(activations.scalar_type());
    return formed;
  }
  return AT_DISPATCH_FLOATING_TYPES(activations.scalar_type(), "gradist::kernels",
                                    [&] { return form<scalar_t>(activations, backprops); });
}

at::Tensor squared_norms(const at::Tensor& rows) {
  return AT_DISPATCH_FLOATING_TYPES(rows.scalar_type(), "gradist::kernels",
                                    [&] { return square_rows<scalar_t>(rows.contiguous()); });
}

Formed row_squared_norms(const at::Tensor& rows) {
  return AT_DISPATCH_FLOATING_TYPES(rows.scalar_type(), "gradist::kernels",
                                    [&] { return add_rows_up<scalar_t>(rows.contiguous()); });
}

Formed token_squared_norms(const at::Tensor& tokens, const at::Tensor& backprops, int64_t count) {
  return AT_DISPATCH_FLOATING_TYPES(backprops.scalar_type(), "gradist::kernels", [&] {
    return add_tokens_up<scalar_t>(tokens.contiguous(), backprops.contiguous(), count);
  });
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
