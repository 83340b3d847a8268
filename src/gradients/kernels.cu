#include "gradients/kernels_cuda.h"

#include <ATen/Dispatch.h>
#include <ATen/OpMathType.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <cstdint>

namespace gradist::kernels::cuda {
namespace {

/// A block of threads makes a tile of kTile x kTile numbers, each thread kSide x kSide of them,
/// from kDepth terms at a time in shared memory.
constexpr int kTile = 64, kSide = 4, kDepth = 16;
constexpr int kThreads = (kTile / kSide) * (kTile / kSide);
constexpr int kWarp = 32, kWarps = kThreads / kWarp;

/// Terms summed in T before they go to a second sum: rounding errors grow with the number of these.
constexpr int64_t kTermsInT = 256;

/// Blocks of threads that keep a large device busy; sums are split into no more parts than that
/// takes.
constexpr int64_t kBusyBlocks = 512;

/// Grid-stride loops cover what is beyond.
constexpr int64_t kMaxBlocks = int64_t{1} << 20;

/// Parts that one example's Gram sum is split into at most.
constexpr int64_t kMaxGramParts = 1024;

__host__ __device__ int64_t divided_up(int64_t x, int64_t y) { return (x + y - 1) / y; }

unsigned blocks_for(int64_t items) {
  return static_cast<unsigned>(std::min(std::max<int64_t>(items, 1), kMaxBlocks));
}

// ---- sums over the threads of a block, in a fixed order

__device__ double warp_sum(double value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_down_sync(0xffffffffU, value, offset);
  }
  return value;
}

/// The sum over the block, in thread 0. All threads call it.
__device__ double block_sum(double value) {
  __shared__ double warps[kWarps];
  value = warp_sum(value);
  if (threadIdx.x % kWarp == 0) {
    warps[threadIdx.x / kWarp] = value;
  }
  __syncthreads();
  double total = 0;
  if (threadIdx.x == 0) {
    for (int w = 0; w < kWarps; ++w) {
      total += warps[w];
    }
  }
  __syncthreads();
  return total;
}

// ---- a tile of a matrix product

template <typename T>
struct SharedTiles {
  T left[kDepth][kTile + 4], right[kDepth][kTile + 4];
};

/// Fills to[k][m] with value(first + m, k0 + k), 0 past `rows` and `depth`. Neighbouring threads
/// take neighbouring terms, or rows, whichever lie side by side in memory.
template <bool terms_adjoin, typename T, typename Value>
__device__ void load(T (&to)[kDepth][kTile + 4], const Value& value, int64_t first, int64_t rows,
                     int64_t k0, int64_t depth) {
  for (int e = static_cast<int>(threadIdx.x); e < kTile * kDepth; e += kThreads) {
    const int k = terms_adjoin ? e % kDepth : e / kTile;
    const int m = terms_adjoin ? e / kDepth : e % kTile;
    to[k][m] = first + m < rows && k0 + k < depth ? value(first + m, k0 + k) : T(0);
  }
}

/// result[r][c] = sum_k left(row + r, k) right(column + c, k) over `depth` terms, for this thread's
/// part of the tile.
template <bool left_terms_adjoin, bool right_terms_adjoin, typename T, typename Left,
          typename Right>
__device__ void multiply(SharedTiles<T>& shared, const Left& left, int64_t row, int64_t rows,
                         const Right& right, int64_t column, int64_t columns, int64_t depth,
                         T (&result)[kSide][kSide]) {
  const int r0 = static_cast<int>(threadIdx.x) / (kTile / kSide) * kSide;
  const int c0 = static_cast<int>(threadIdx.x) % (kTile / kSide) * kSide;
  T part[kSide][kSide] = {};
  for (int r = 0; r < kSide; ++r) {
    for (int c = 0; c < kSide; ++c) {
      result[r][c] = 0;
    }
  }
  const auto close = [&] {
    for (int r = 0; r < kSide; ++r) {
      for (int c = 0; c < kSide; ++c) {
        result[r][c] += part[r][c];
        part[r][c] = 0;
      }
    }
  };
  for (int64_t k0 = 0; k0 < depth; k0 += kDepth) {
    load<left_terms_adjoin>(shared.left, left, row, rows, k0, depth);
    load<right_terms_adjoin>(shared.right, right, column, columns, k0, depth);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
#pragma unroll
      for (int r = 0; r < kSide; ++r) {
#pragma unroll
        for (int c = 0; c < kSide; ++c) {
          part[r][c] += shared.left[k][r0 + r] * shared.right[k][c0 + c];
        }
      }
    }
    __syncthreads();
    if ((k0 + kDepth) % kTermsInT == 0) {
      close();
    }
  }
  close();
}

/// A factor [B, S, n] of any strides.
template <typename Source>
struct Factor {
  const Source* data;
  int64_t example_stride, position_stride, column_stride;

  __device__ auto at(int64_t example, int64_t position, int64_t column) const {
    return static_cast<at::opmath_type<Source>>(
        data[example * example_stride + position * position_stride + column * column_stride]);
  }
};

template <typename Source>
Factor<Source> factor(const at::Tensor& tensor) {
  return {tensor.const_data_ptr<Source>(), tensor.stride(0), tensor.stride(1), tensor.stride(2)};
}

// ---- formed gradients

/// g_i = sum_s d_is a_is^T of a linear layer.
template <typename Source>
struct LinearGradient {
  static constexpr bool kPositionsAdjoin = false;
  Factor<Source> a, d;
  int64_t examples, groups, outputs, inputs, positions;

  __device__ auto backprop(int64_t i, int64_t /*group*/, int64_t o, int64_t s) const {
    return d.at(i, s, o);
  }
  __device__ auto activation(int64_t i, int64_t /*group*/, int64_t column, int64_t s) const {
    return a.at(i, s, column);
  }
};

/// The same of a convolution: positions are those of its output, inputs the entries (channel of the
/// group, kernel row, kernel column) of an unfolded window. x [B, C, H, W], d [B, O, H', W'],
/// contiguous. `outputs` and `inputs` are those of one group.
template <typename Source>
struct ConvGradient {
  static constexpr bool kPositionsAdjoin = true;
  using T = at::opmath_type<Source>;
  const Source *x, *d;
  int64_t examples, groups, outputs, inputs, positions;
  int64_t channels, height, width, out_width;  ///< channels of one group
  int64_t kernel_height, kernel_width, stride_y, stride_x, padding_y, padding_x, dilation_y,
      dilation_x;

  __device__ T backprop(int64_t i, int64_t group, int64_t o, int64_t s) const {
    return static_cast<T>(d[((i * groups + group) * outputs + o) * positions + s]);
  }
  __device__ T activation(int64_t i, int64_t group, int64_t column, int64_t s) const {
    const auto kx = column % kernel_width, rest = column / kernel_width;
    const auto ky = rest % kernel_height, channel = rest / kernel_height;
    const auto y = s / out_width * stride_y - padding_y + ky * dilation_y;
    const auto xx = s % out_width * stride_x - padding_x + kx * dilation_x;
    if (y < 0 || y >= height || xx < 0 || xx >= width) {
      return T(0);
    }
    return static_cast<T>(
        x[(((i * groups + group) * channels + channel) * height + y) * width + xx]);
  }
};

/// Item (part, group, tile of rows, tile of columns): forms that tile of g_i for the examples of
/// the part, one after the other. Writes its share of ||g_i||^2 to norms [B, tiles], and the sum
/// over the examples to sums [parts, groups, outputs, inputs] if that is wanted.
template <typename T, typename Gradient>
__global__ void __launch_bounds__(kThreads)
    form_kernel(Gradient gradient, int64_t parts, double* norms, T* sums) {
  __shared__ SharedTiles<T> shared;
  const auto across = divided_up(gradient.inputs, kTile);
  const auto down = divided_up(gradient.outputs, kTile);
  const auto tiles = gradient.groups * down * across;
  const auto examples = divided_up(gradient.examples, parts);
  const int r0 = static_cast<int>(threadIdx.x) / (kTile / kSide) * kSide;
  const int c0 = static_cast<int>(threadIdx.x) % (kTile / kSide) * kSide;
  for (int64_t item = blockIdx.x; item < parts * tiles; item += gridDim.x) {
    const auto tile = item % tiles, part = item / tiles, group = tile / (down * across);
    const auto row = tile / across % down * kTile, column = tile % across * kTile;
    const auto begin = part * examples;
    const auto end = begin + examples < gradient.examples ? begin + examples : gradient.examples;
    T sum[kSide][kSide] = {};
    for (int64_t i = begin; i < end; ++i) {
      T g[kSide][kSide];
      multiply<Gradient::kPositionsAdjoin, Gradient::kPositionsAdjoin>(
          shared, [&](int64_t o, int64_t s) -> T { return gradient.backprop(i, group, o, s); }, row,
          gradient.outputs,
          [&](int64_t c, int64_t s) -> T { return gradient.activation(i, group, c, s); }, column,
          gradient.inputs, gradient.positions, g);
      double square = 0;
      for (int r = 0; r < kSide; ++r) {
        for (int c = 0; c < kSide; ++c) {
          square += static_cast<double>(g[r][c]) * static_cast<double>(g[r][c]);
          sum[r][c] += g[r][c];
        }
      }
      square = block_sum(square);
      if (threadIdx.x == 0) {
        norms[i * tiles + tile] = square;
      }
    }
    if (sums == nullptr) {
      continue;
    }
    for (int r = 0; r < kSide; ++r) {
      for (int c = 0; c < kSide; ++c) {
        const auto o = row + r0 + r, in = column + c0 + c;
        if (o < gradient.outputs && in < gradient.inputs) {
          sums[((part * gradient.groups + group) * gradient.outputs + o) * gradient.inputs + in] =
              sum[r][c];
        }
      }
    }
  }
}

/// Norms [B] and, if wanted, the sum [groups * outputs, inputs].
template <typename T, typename Gradient>
Formed form(const Gradient& gradient, const at::TensorOptions& options, bool with_sum) {
  const auto tiles =
      gradient.groups * divided_up(gradient.outputs, kTile) * divided_up(gradient.inputs, kTile);
  const auto wanted = std::min(gradient.examples, divided_up(kBusyBlocks, tiles));
  const auto parts = divided_up(gradient.examples, divided_up(gradient.examples, wanted));
  const at::Tensor norms = at::empty({gradient.examples, tiles}, options.dtype(at::kDouble));
  at::Tensor sums;
  if (with_sum) {
    sums = at::empty({parts, gradient.groups * gradient.outputs, gradient.inputs}, options);
  }
  form_kernel<T><<<blocks_for(parts * tiles), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      gradient, parts, norms.data_ptr<double>(), with_sum ? sums.data_ptr<T>() : nullptr);
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {norms.sum(1).to(options.dtype()), with_sum ? sums.sum(0) : at::Tensor()};
}

// ---- position Gram matrices

/// Pair number p of the tiles left <= right, counted right by right.
struct TilePair {
  int64_t left, right;
};
__device__ TilePair tile_pair(int64_t p) {
  auto right = static_cast<int64_t>((sqrt(8.0 * static_cast<double>(p) + 1) - 1) / 2);
  while (right * (right + 1) / 2 > p) {
    --right;
  }
  while ((right + 1) * (right + 2) / 2 <= p) {
    ++right;
  }
  return {p - right * (right + 1) / 2, right};
}

/// Item (example, part): the pairs of tiles part, part + parts, ..., to sums [B, parts].
template <typename T, typename Source>
__global__ void __launch_bounds__(kThreads)
    gram_kernel(Factor<Source> a, Factor<Source> d, int64_t examples, int64_t positions,
                int64_t inputs, int64_t outputs, int64_t parts, double* sums) {
  __shared__ SharedTiles<T> shared;
  const auto tiles = divided_up(positions, kTile), pairs = tiles * (tiles + 1) / 2;
  const int r0 = static_cast<int>(threadIdx.x) / (kTile / kSide) * kSide;
  const int c0 = static_cast<int>(threadIdx.x) % (kTile / kSide) * kSide;
  for (int64_t item = blockIdx.x; item < examples * parts; item += gridDim.x) {
    const auto i = item / parts;
    double total = 0;
    for (int64_t p = item % parts; p < pairs; p += parts) {
      const auto pair = tile_pair(p);
      const auto row = pair.left * kTile, column = pair.right * kTile;
      const auto products = [&](const Factor<Source>& f, int64_t n, T(&result)[kSide][kSide]) {
        const auto value = [&](int64_t s, int64_t k) -> T { return f.at(i, s, k); };
        multiply<true, true>(shared, value, row, positions, value, column, positions, n, result);
      };
      T of_a[kSide][kSide], of_d[kSide][kSide];
      products(a, inputs, of_a);
      products(d, outputs, of_d);
      for (int r = 0; r < kSide; ++r) {
        for (int c = 0; c < kSide; ++c) {
          const auto s = row + r0 + r, t = column + c0 + c;
          const double weight = s < t ? 2.0 : (s == t ? 1.0 : 0.0);
          total += weight * static_cast<double>(of_a[r][c]) * static_cast<double>(of_d[r][c]);
        }
      }
    }
    total = block_sum(total);
    if (threadIdx.x == 0) {
      sums[item] = total;
    }
  }
}

template <typename Source>
at::Tensor gram(const at::Tensor& a, const at::Tensor& d) {
  using T = at::opmath_type<Source>;
  const auto tiles = divided_up(a.size(1), kTile);
  const auto parts = std::min(tiles * (tiles + 1) / 2, kMaxGramParts);
  const at::Tensor sums = at::empty({a.size(0), parts}, a.options().dtype(at::kDouble));
  gram_kernel<T><<<blocks_for(a.size(0) * parts), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      factor<Source>(a), factor<Source>(d), a.size(0), a.size(1), a.size(2), d.size(2), parts,
      sums.data_ptr<double>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return sums.sum(1).to(c10::CppTypeToScalarType<T>::value);
}

// ---- normalisation layers

/// A running sum of two quantities, in T first and then in float64.
template <typename T>
struct ScaleShiftSum {
  T scale = 0, shift = 0;
  double scale_total = 0, shift_total = 0;
  int64_t terms = 0;

  __device__ void add(T product, T backprop) {
    scale += product;
    shift += backprop;
    if (++terms % kTermsInT == 0) {
      close();
    }
  }
  __device__ void close() {
    scale_total += static_cast<double>(scale);
    shift_total += static_cast<double>(shift);
    scale = shift = 0;
  }
};

/// Item (part, example, 32 channels): warps share the positions of the part, lanes are channels. To
/// scale and shift [parts, B, C].
template <typename T, typename Source>
__global__ void __launch_bounds__(kThreads)
    row_norm_kernel(const Source* x, const Source* d, const T* mean, const T* rstd,
                    int64_t examples, int64_t positions, int64_t channels, int64_t parts,
                    double* scale, double* shift) {
  __shared__ double of_scale[kWarps][kWarp], of_shift[kWarps][kWarp];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const auto across = divided_up(channels, kWarp), length = divided_up(positions, parts);
  for (int64_t item = blockIdx.x; item < parts * examples * across; item += gridDim.x) {
    const auto channel = item % across * kWarp + lane;
    const auto i = item / across % examples, part = item / across / examples;
    const auto end = (part + 1) * length < positions ? (part + 1) * length : positions;
    ScaleShiftSum<T> sum;
    if (channel < channels) {
      for (int64_t s = part * length + warp; s < end; s += kWarps) {
        const auto row = i * positions + s;
        const auto backprop = static_cast<T>(d[row * channels + channel]);
        const T centre = mean == nullptr ? T(0) : mean[row];
        sum.add(backprop * ((static_cast<T>(x[row * channels + channel]) - centre) * rstd[row]),
                backprop);
      }
    }
    sum.close();
    of_scale[warp][lane] = sum.scale_total;
    of_shift[warp][lane] = sum.shift_total;
    __syncthreads();
    if (warp == 0 && channel < channels) {
      double scale_total = 0, shift_total = 0;
      for (int w = 0; w < kWarps; ++w) {
        scale_total += of_scale[w][lane];
        shift_total += of_shift[w][lane];
      }
      scale[(part * examples + i) * channels + channel] = scale_total;
      shift[(part * examples + i) * channels + channel] = shift_total;
    }
    __syncthreads();
  }
}

template <typename Source>
ScaleShift row_norm(const at::Tensor& x, const at::Tensor& d, const at::Tensor& mean,
                    const at::Tensor& rstd) {
  using T = at::opmath_type<Source>;
  const auto examples = x.size(0), positions = x.size(1), channels = x.size(2);
  const auto items = examples * divided_up(channels, kWarp);
  const auto parts = std::min(divided_up(positions, kTermsInT), divided_up(kBusyBlocks, items));
  const auto options = x.options().dtype(at::kDouble);
  const at::Tensor scale = at::empty({parts, examples, channels}, options);
  const at::Tensor shift = at::empty({parts, examples, channels}, options);
  row_norm_kernel<T><<<blocks_for(parts * items), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
      x.const_data_ptr<Source>(), d.const_data_ptr<Source>(),
      mean.defined() ? mean.const_data_ptr<T>() : nullptr, rstd.const_data_ptr<T>(), examples,
      positions, channels, parts, scale.data_ptr<double>(), shift.data_ptr<double>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  const auto dtype = c10::CppTypeToScalarType<T>::value;
  return {scale.sum(0).to(dtype), shift.sum(0).to(dtype)};
}

/// A warp a channel of an example: to scale and shift [B, C]. Statistics repeat after `statistics`
/// channels.
template <typename T, typename Source>
__global__ void __launch_bounds__(kThreads)
    channel_norm_kernel(const Source* x, const Source* d, const T* mean, const T* rstd,
                        int64_t rows, int64_t positions, int64_t statistics, T* scale, T* shift) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const auto warps = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; row < rows;
       row += warps) {
    const T centre = mean[row % statistics];
    ScaleShiftSum<T> sum;
    for (int64_t s = lane; s < positions; s += kWarp) {
      const auto backprop = static_cast<T>(d[row * positions + s]);
      sum.add(backprop * (static_cast<T>(x[row * positions + s]) - centre), backprop);
    }
    sum.close();
    const double scale_total = warp_sum(sum.scale_total), shift_total = warp_sum(sum.shift_total);
    if (lane == 0) {
      scale[row] = static_cast<T>(scale_total * static_cast<double>(rstd[row % statistics]));
      shift[row] = static_cast<T>(shift_total);
    }
  }
}

template <typename Source>
ScaleShift channel_norm(const at::Tensor& x, const at::Tensor& d, const at::Tensor& mean,
                        const at::Tensor& rstd) {
  using T = at::opmath_type<Source>;
  const auto rows = x.size(0) * x.size(1);
  const auto options = x.options().dtype(c10::CppTypeToScalarType<T>::value);
  const at::Tensor scale = at::empty({x.size(0), x.size(1)}, options);
  const at::Tensor shift = at::empty({x.size(0), x.size(1)}, options);
  channel_norm_kernel<T>
      <<<blocks_for(divided_up(rows, kWarps)), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
          x.const_data_ptr<Source>(), d.const_data_ptr<Source>(), mean.const_data_ptr<T>(),
          rstd.const_data_ptr<T>(), rows, x.size(2), mean.numel(), scale.data_ptr<T>(),
          shift.data_ptr<T>());
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  return {scale, shift};
}

template <typename Source>
Formed conv(const at::Tensor& x, const at::Tensor& d, const ConvGeometry& geometry, bool with_sum) {
  using T = at::opmath_type<Source>;
  const auto groups = geometry.groups, channels = x.size(1) / groups;
  const auto [kernel_height, kernel_width] = geometry.kernel;
  const ConvGradient<Source> gradient{x.const_data_ptr<Source>(),
                                      d.const_data_ptr<Source>(),
                                      x.size(0),
                                      groups,
                                      d.size(1) / groups,
                                      channels * kernel_height * kernel_width,
                                      d.size(2) * d.size(3),
                                      channels,
                                      x.size(2),
                                      x.size(3),
                                      d.size(3),
                                      kernel_height,
                                      kernel_width,
                                      geometry.stride[0],
                                      geometry.stride[1],
                                      geometry.padding[0],
                                      geometry.padding[1],
                                      geometry.dilation[0],
                                      geometry.dilation[1]};
  return form<T>(gradient, x.options().dtype(c10::CppTypeToScalarType<T>::value), with_sum);
}

// ---- running sums

/// The running sums' memory; null where not wanted.
struct SumPointers {
  double *sum, *squares, *within, *open;
};

/// A thread a coordinate. Each block's part of ||S_k||^2 goes to norms [blocks].
template <typename T>
__global__ void __launch_bounds__(kThreads)
    segment_kernel(const T* segment_sum, const T* segment_squares, int64_t count,
                   SegmentWeights weights, SumPointers sums, double* norms) {
  double norm = 0;
  const auto threads = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t j = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; j < count;
       j += threads) {
    double total = static_cast<double>(segment_sum[j]);
    sums.sum[j] += weights.visit * total;
    if (!weights.whole) {
      total += sums.open[j];
      sums.open[j] = weights.last ? 0.0 : total;
    }
    norm += total * total;
    if (sums.squares != nullptr) {
      const auto square = static_cast<double>(segment_squares[j]);
      sums.squares[j] += weights.visit * square;
      if (sums.within != nullptr) {
        const double mean_part = weights.last ? total * total / weights.visited : 0.0;
        sums.within[j] += weights.within * (square - mean_part);
      }
    }
  }
  norm = block_sum(norm);
  if (threadIdx.x == 0) {
    norms[blockIdx.x] = weights.last ? norm : 0.0;
  }
}

double* numbers(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.data_ptr<double>() : nullptr;
}

}  // namespace

#define GRADIST_DISPATCH(TYPE, ...) \
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, TYPE, "gradist::kernels", __VA_ARGS__)

at::Tensor gram_squared_norms(const at::Tensor& activations, const at::Tensor& backprops) {
  const c10::cuda::CUDAGuard guard(activations.device());
  return GRADIST_DISPATCH(activations.scalar_type(),
                          [&] { return gram<scalar_t>(activations, backprops); });
}

Formed formed_squared_norms(const at::Tensor& activations, const at::Tensor& backprops) {
  const c10::cuda::CUDAGuard guard(activations.device());
  return GRADIST_DISPATCH(activations.scalar_type(), [&] {
    using T = at::opmath_type<scalar_t>;
    const LinearGradient<scalar_t> gradient{factor<scalar_t>(activations),
                                            factor<scalar_t>(backprops),
                                            activations.size(0),
                                            1,
                                            backprops.size(2),
                                            activations.size(2),
                                            activations.size(1)};
    return form<T>(gradient, activations.options().dtype(c10::CppTypeToScalarType<T>::value),
                   /*with_sum=*/true);
  });
}

ScaleShift row_norm_gradients(const at::Tensor& x, const at::Tensor& backprops,
                              const at::Tensor& mean, const at::Tensor& rstd) {
  const c10::cuda::CUDAGuard guard(x.device());
  return GRADIST_DISPATCH(x.scalar_type(), [&] {
    return row_norm<scalar_t>(x.contiguous(), backprops.contiguous(), mean, rstd);
  });
}

ScaleShift channel_norm_gradients(const at::Tensor& x, const at::Tensor& backprops,
                                  const at::Tensor& mean, const at::Tensor& rstd) {
  const c10::cuda::CUDAGuard guard(x.device());
  return GRADIST_DISPATCH(x.scalar_type(), [&] {
    return channel_norm<scalar_t>(x.contiguous(), backprops.contiguous(), mean, rstd);
  });
}

Formed conv_squared_norms(const at::Tensor& x, const at::Tensor& backprops,
                          const ConvGeometry& geometry, bool with_sum) {
  const c10::cuda::CUDAGuard guard(x.device());
  return GRADIST_DISPATCH(x.scalar_type(), [&] {
    return conv<scalar_t>(x.contiguous(), backprops.contiguous(), geometry, with_sum);
  });
}

void add_segment(const at::Tensor& segment_sum, const at::Tensor& segment_squares,
                 const SegmentWeights& weights, const RunningSums& sums,
                 const at::Tensor& squared_norm) {
  const c10::cuda::CUDAGuard guard(segment_sum.device());
  const auto sum = segment_sum.contiguous();
  const auto squares = segment_squares.defined() ? segment_squares.contiguous() : segment_squares;
  const auto blocks =
      std::min(std::max<int64_t>(1, divided_up(sum.numel(), kThreads)), 2 * kBusyBlocks);
  const at::Tensor norms = at::empty({blocks}, sum.options().dtype(at::kDouble));
  const SumPointers pointers{numbers(sums.sum), numbers(sums.squares), numbers(sums.within),
                             numbers(sums.open)};
  AT_DISPATCH_FLOATING_TYPES(sum.scalar_type(), "gradist::kernels", [&] {
    segment_kernel<<<blocks_for(blocks), kThreads, 0, c10::cuda::getCurrentCUDAStream()>>>(
        sum.const_data_ptr<scalar_t>(),
        squares.defined() ? squares.const_data_ptr<scalar_t>() : nullptr, sum.numel(), weights,
        pointers, norms.data_ptr<double>());
  });
  C10_CUDA_KERNEL_LAUNCH_CHECK();
  squared_norm.copy_(norms.sum());
}

}  // namespace gradist::kernels::cuda
