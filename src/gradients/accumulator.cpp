#include "gradients/accumulator.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>

namespace gradist {
namespace {

/// Coordinates handled together, so that a block of all running sums (4 x 8 bytes a coordinate)
/// stays in a core's cache while the segments of a chunk pass over it.
constexpr int64_t kBlockCoordinates = int64_t{1} << 17;

/// What one segment adds to the running sums.
struct SegmentWeights {
  double visit = 1;    ///< u_k
  double within = 0;   ///< c_k
  double visited = 1;  ///< n_k
  bool whole = true;   ///< the segment is the whole stratum
  bool last = true;    ///< the stratum ends here
};

/// Running sums of one block of coordinates; null where not wanted.
struct BlockSums {
  double* sum;
  double* squares;
  double* within;
  double* open;
};

/// Adds a segment's S_j (and Q_j) for `count` coordinates; returns its part of ||S_k||^2 once the
/// stratum is complete.
template <typename Scalar>
double add_block(const Scalar* segment_sum, const Scalar* segment_squares, int64_t count,
                 const SegmentWeights& weights, const BlockSums& sums) {
  double squared_norm = 0;
  for (int64_t j = 0; j < count; ++j) {
    double total = static_cast<double>(segment_sum[j]);
    sums.sum[j] += weights.visit * total;
    if (!weights.whole) {
      total = sums.open[j] += total;
    }
    squared_norm += total * total;
    if (sums.squares != nullptr) {
      const auto square = static_cast<double>(segment_squares[j]);
      sums.squares[j] += weights.visit * square;
      if (sums.within != nullptr) {
        const double mean_part = weights.last ? total * total / weights.visited : 0.0;
        sums.within[j] += weights.within * (square - mean_part);
      }
    }
    if (!weights.whole && weights.last) {
      sums.open[j] = 0;
    }
  }
  return weights.last ? squared_norm : 0.0;
}

double* block(const ParameterList& list, size_t parameter, int64_t begin) {
  return list.empty() ? nullptr : list[parameter].data_ptr<double>() + begin;
}

ParameterList zeros_like_in_double(const ParameterList& like) {
  ParameterList zeros;
  for (const auto& parameter : like) {
    zeros.push_back(at::zeros(parameter.sizes(), at::kDouble));
  }
  return zeros;
}

}  // namespace

MomentAccumulator::MomentAccumulator(const ParameterList& like, Options options)
    : options_(std::move(options)) {
  const auto strata = static_cast<int64_t>(options_.visit_weights.size());
  const auto parameters = static_cast<int64_t>(like.size());
  TORCH_INTERNAL_ASSERT(options_.visited.size() == options_.visit_weights.size());
  sum_ = zeros_like_in_double(like);
  open_sum_ = zeros_like_in_double(like);
  if (options_.per_coordinate_squares) {
    squares_ = zeros_like_in_double(like);
    if (!options_.within_weights.empty()) {
      within_ = zeros_like_in_double(like);
    }
  }
  squared_norms_ = at::zeros({parameters, strata}, at::kDouble);
  sum_squared_norms_ = at::zeros({parameters, strata}, at::kDouble);
}

void MomentAccumulator::add(const GradientBatch& batch, const at::Tensor& squared_norms,
                            const std::vector<Segment>& segments) {
  if (segments.empty()) {
    return;
  }
  const auto norms = squared_norms.to(at::kCPU);
  for (const auto& segment : segments) {
    squared_norms_.select(1, segment.stratum) += norms.slice(1, segment.begin, segment.end).sum(1);
  }
  for (size_t l = 0; l < batch.parameters.size(); ++l) {
    add_parameter(l, batch.parameters[l], segments);
  }
  stratum_open_ = !segments.back().last;
}

void MomentAccumulator::add_parameter(size_t parameter, const FactoredGradients& gradients,
                                      const std::vector<Segment>& segments) {
  const bool with_squares = options_.per_coordinate_squares;
  const bool squares_in_factors = with_squares && gradients.few_pairs(gradients);
  const auto squares =
      squares_in_factors ? std::optional(gradients.products(gradients)) : std::nullopt;

  const auto rows = std::max<int64_t>(1, kBlockCoordinates / gradients.inputs());
  const auto blocks = (gradients.outputs() + rows - 1) / rows;
  std::vector<double> block_norms(static_cast<size_t>(blocks) * segments.size());

  // Blocks of rows are independent, so the result does not depend on the number of threads.
  at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
    const at::NoGradGuard no_grad;
    for (int64_t b = first; b < last; ++b) {
      const auto row_begin = b * rows;
      const auto row_end = std::min(row_begin + rows, gradients.outputs());
      const auto offset = row_begin * gradients.inputs();
      const BlockSums sums{block(sum_, parameter, offset), block(squares_, parameter, offset),
                           block(within_, parameter, offset), block(open_sum_, parameter, offset)};
      for (size_t s = 0; s < segments.size(); ++s) {
        const auto& segment = segments[s];
        const auto k = static_cast<size_t>(segment.stratum);
        const bool continued = s == 0 && stratum_open_;
        const SegmentWeights weights{
            options_.visit_weights[k],
            options_.within_weights.empty() ? 0.0 : options_.within_weights[k],
            static_cast<double>(options_.visited[k]), segment.last && !continued, segment.last};
        const auto part = [&](const FactoredGradients& g) {
          return g.slice(segment.begin, segment.end).slice_outputs(row_begin, row_end);
        };
        const auto segment_sum = part(gradients).sum().to(at::kCPU).contiguous();
        at::Tensor segment_squares;
        if (with_squares) {
          segment_squares = (squares ? part(*squares).sum() : part(gradients).sum_squares())
                                .to(at::kCPU)
                                .contiguous();
        }
        AT_DISPATCH_FLOATING_TYPES(segment_sum.scalar_type(), "MomentAccumulator", [&] {
          block_norms[static_cast<size_t>(b) * segments.size() + s] = add_block<scalar_t>(
              segment_sum.const_data_ptr<scalar_t>(),
              with_squares ? segment_squares.const_data_ptr<scalar_t>() : nullptr,
              segment_sum.numel(), weights, sums);
        });
      }
    }
  });

  auto norms = sum_squared_norms_.accessor<double, 2>();
  for (int64_t b = 0; b < blocks; ++b) {
    for (size_t s = 0; s < segments.size(); ++s) {
      norms[static_cast<int64_t>(parameter)][segments[s].stratum] +=
          block_norms[static_cast<size_t>(b) * segments.size() + s];
    }
  }
}

}  // namespace gradist
