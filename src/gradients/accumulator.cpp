#include "gradients/accumulator.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>

namespace gradist {
namespace {

/// Bytes of running sums handled together, so that they stay in a core's cache while the segments
/// of a chunk pass over them.
constexpr int64_t kBlockBytes = int64_t{1} << 22;

/// Coordinates [begin, begin + count) of one parameter's sums; undefined where they are not kept.
at::Tensor block(const ParameterList& list, size_t parameter, int64_t begin, int64_t count) {
  return list.empty() ? at::Tensor() : list[parameter].view({-1}).slice(0, begin, begin + count);
}

ParameterList zeros_like_in_double(const ParameterList& like) {
  ParameterList zeros;
  for (const auto& parameter : like) {
    zeros.push_back(at::zeros(parameter.sizes(), parameter.options().dtype(at::kDouble)));
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
  add(batch, batch, squared_norms, segments);
}

void MomentAccumulator::add(const GradientBatch& batch, const GradientBatch& squared,
                            const at::Tensor& squared_norms, const std::vector<Segment>& segments) {
  if (segments.empty()) {
    return;
  }
  const auto norms = squared_norms.to(at::kCPU);
  for (const auto& segment : segments) {
    squared_norms_.select(1, segment.stratum) += norms.slice(1, segment.begin, segment.end).sum(1);
  }
  for (size_t l = 0; l < batch.parameters.size(); ++l) {
    add_parameter(l, batch.parameters[l], squared.parameters[l], segments);
  }
  stratum_open_ = !segments.back().last;
}

void MomentAccumulator::add_parameter(size_t parameter, const FactoredGradients& gradients,
                                      const FactoredGradients& squared,
                                      const std::vector<Segment>& segments) {
  const at::NoGradGuard no_grad;
  const bool with_squares = options_.per_coordinate_squares;
  const bool squares_in_factors = with_squares && squared.few_pairs(squared);
  const auto squares = squares_in_factors ? std::optional(squared.products(squared)) : std::nullopt;

  // A device takes the whole parameter at once, on the stream of this thread.
  const bool on_cpu = gradients.activations().is_cpu();
  const auto row_bytes = (with_squares ? 4 : 2) * int64_t{8} * gradients.inputs();
  const auto rows = std::max<int64_t>(1, on_cpu ? kBlockBytes / row_bytes : gradients.outputs());
  const auto blocks = (gradients.outputs() + rows - 1) / rows;
  const auto block_norms =
      at::zeros({blocks, static_cast<int64_t>(segments.size())}, sum_[parameter].options());

  const auto add_block = [&](int64_t b) {
    const auto row_begin = b * rows;
    const auto row_end = std::min(row_begin + rows, gradients.outputs());
    const auto offset = row_begin * gradients.inputs();
    const auto count = (row_end - row_begin) * gradients.inputs();
    const kernels::RunningSums sums{
        block(sum_, parameter, offset, count), block(squares_, parameter, offset, count),
        block(within_, parameter, offset, count), block(open_sum_, parameter, offset, count)};
    for (size_t s = 0; s < segments.size(); ++s) {
      const auto& segment = segments[s];
      const auto part = [&](const FactoredGradients& g) {
        return g.slice(segment.begin, segment.end).slice_outputs(row_begin, row_end);
      };
      at::Tensor segment_squares;
      if (with_squares) {
        segment_squares = squares ? part(*squares).sum() : part(squared).sum_squares();
      }
      kernels::add_segment(part(gradients).sum(), segment_squares,
                           weights_of(segment, s == 0 && stratum_open_), sums,
                           block_norms.select(0, b).select(0, static_cast<int64_t>(s)));
    }
  };
  if (on_cpu) {
    // Blocks of rows are independent, so the result does not depend on the number of threads.
    at::parallel_for(0, blocks, 1, [&](int64_t first, int64_t last) {
      const at::NoGradGuard in_this_thread;
      for (int64_t b = first; b < last; ++b) {
        add_block(b);
      }
    });
  } else {
    add_block(0);
  }

  const auto on_host = block_norms.to(at::kCPU);
  const auto parts = on_host.accessor<double, 2>();
  auto norms = sum_squared_norms_.accessor<double, 2>();
  for (int64_t b = 0; b < blocks; ++b) {
    for (size_t s = 0; s < segments.size(); ++s) {
      norms[static_cast<int64_t>(parameter)][segments[s].stratum] +=
          parts[b][static_cast<int64_t>(s)];
    }
  }
}

kernels::SegmentWeights MomentAccumulator::weights_of(const Segment& segment,
                                                      bool continued) const {
  const auto k = static_cast<size_t>(segment.stratum);
  return {options_.visit_weights[k],
          options_.within_weights.empty() ? 0.0 : options_.within_weights[k],
          static_cast<double>(options_.visited[k]), segment.last && !continued, segment.last};
}

}  // namespace gradist
