#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>

/// The sums over positions that torch has no good operation for, each with a CPU and a CUDA
/// implementation chosen by the device of its arguments. B examples, S positions, I inputs, O
/// outputs, C channels; a [B, S, I] activations, d [B, S, O] backprops of the *summed* loss, and
///
///   g_i = sum_s d_is a_is^T.
///
/// Factors are float64, float32, or bfloat16 and float16, whose products and sums are taken in
/// float32. Results are float64 for float64 factors and float32 else. Any strides and any sizes, 0
/// among them. The order of summation depends on shapes and the number of threads, not on the run.
namespace gradist::kernels {

/// ||g_i||^2 = sum_st <a_is, a_it> <d_is, d_it>, [B], from position Gram matrices in tiles of t >=
/// s: memory for a tile, never S x S. B S^2 (I + O) / 2 multiply-adds.
at::Tensor gram_squared_norms(const at::Tensor& activations, const at::Tensor& backprops);

/// Squared norms of single gradients, and their sum.
struct Formed {
  at::Tensor squared_norms;    ///< ||g_i||^2, [B]
  at::Tensor sum;              ///< sum_i g_i, [O, I]
  at::Tensor backprop_sums{};  ///< sum_s d_is, [B, O], where they were at hand; else undefined
};

/// Multiply-adds of an example's squared norm by either way, as many of a large product as take the
/// same time: the prior of a choice. From timings on two cores with AVX-512.
constexpr double gram_operations(double positions, double inputs, double outputs) {
  return 2 * positions * positions * (inputs + outputs);
}
constexpr double forming_operations(double positions, double inputs, double outputs) {
  return (positions + 14) * inputs * outputs;
}

/// What multiplies float32 on the CPU: its vectors, or where `can_use_amx` its tiles of bfloat16
/// (Intel AMX), which lose no more of a number than float32 does: see amx.h. Any: the one with
/// fewer operations.
enum class Multiplier { kAny, kVectors, kAmx };

/// Whether AMX multiplies a [B, S, I] and d [B, S, O], and forming_operations of it.
bool can_use_amx(const at::Tensor& activations, const at::Tensor& backprops);
double amx_forming_operations(double positions, double inputs, double outputs);

/// Both from one formation of each g_i, a block at a time that is squared and added to the sum
/// where it stands (in registers or in cache): no B x O x I memory. B S I O multiply-adds, those of
/// the sum alone. Without `with_sum` the sum may be undefined.
Formed formed_squared_norms(const at::Tensor& activations, const at::Tensor& backprops,
                            bool with_sum = true, Multiplier multiplier = Multiplier::kAny);

/// The same of gradients that are given as rows [B, n]: sum [n].
Formed row_squared_norms(const at::Tensor& rows);

/// The same for one position, g_i = d_i a_i^T with a [B, I] and d [B, O], whose norm is a product:
/// ||g_i||^2 = ||a_i||^2 ||d_i||^2, and for a bias, whose gradient is d_i itself.
struct OuterProducts {
  Formed weight;  ///< sum [O, I]
  Formed bias;    ///< sum [O]
};
OuterProducts outer_products(const at::Tensor& activations, const at::Tensor& backprops,
                             Multiplier multiplier = Multiplier::kAny);

/// The same for the rows of an embedding: g_i = sum_s e(t_is) d_is^T with tokens t [B, S] int64 and
/// d [B, S, I], e(t) the unit vector t of `count`. Sum [count, I]. Rows that an example has several
/// times are summed before they are squared.
Formed token_squared_norms(const at::Tensor& tokens, const at::Tensor& backprops, int64_t count);

/// Gradients of a normalisation's scale and shift parameters.
struct ScaleShift {
  at::Tensor scale;  ///< sum_s d_is x^_is with x^ = (x - mean) rstd the normalised input, [B, C]
  at::Tensor shift;  ///< sum_s d_is, [B, C]
};

/// LayerNorm, RMSNorm: x and d [B, S, C], each row normalised by its mean and rstd (reciprocal
/// standard deviation), [B, S]; an undefined mean is 0. One pass over memory.
ScaleShift row_norm_gradients(const at::Tensor& x, const at::Tensor& backprops,
                              const at::Tensor& mean, const at::Tensor& rstd);

/// GroupNorm, InstanceNorm, BatchNorm in eval mode: x and d [B, C, S], each channel normalised by
/// its mean and rstd, [B, C], or [1, C] for all examples. One pass over memory.
ScaleShift channel_norm_gradients(const at::Tensor& x, const at::Tensor& backprops,
                                  const at::Tensor& mean, const at::Tensor& rstd);

/// A 2-d convolution, (vertical, horizontal) each; the 1-d one has height 1.
struct ConvGeometry {
  std::array<int64_t, 2> kernel{1, 1}, stride{1, 1}, padding{0, 0}, dilation{1, 1};
  int64_t groups = 1;
};

/// The same pair for the weight [O, C / groups, kernel] of a convolution of x [B, C, H, W] with
/// backprops [B, O, H', W'], nothing or only tiles of which are unfolded. Without `with_sum` the
/// sum is undefined. B O (C / groups) kernel H' W' multiply-adds.
Formed conv_squared_norms(const at::Tensor& x, const at::Tensor& backprops,
                          const ConvGeometry& geometry, bool with_sum = true);

/// What one segment of a stratum k adds to running sums, see MomentAccumulator.
struct SegmentWeights {
  double visit = 1;    ///< u_k
  double within = 0;   ///< c_k
  double visited = 1;  ///< n_k
  bool whole = true;   ///< the segment is the whole stratum
  bool last = true;    ///< the stratum ends here
};

/// Running sums of n coordinates, float64 [n] contiguous each, undefined where not wanted; `open`
/// is the S_k of a stratum that earlier segments began.
struct RunningSums {
  at::Tensor sum, squares, within, open;
};

/// Adds a segment's sums S_j and Q_j, float64 or float32 [n] on the sums' device (Q undefined where
/// `squares` is). Sets `squared_norm`, float64 [] there, to ||S_k||^2 of these coordinates if the
/// stratum ends here and to 0 else.
void add_segment(const at::Tensor& segment_sum, const at::Tensor& segment_squares,
                 const SegmentWeights& weights, const RunningSums& sums,
                 const at::Tensor& squared_norm);

}  // namespace gradist::kernels
