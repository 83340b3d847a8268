#include "gradients/tensor_formation.h"

#include "gradients/amx.h"
#include "gradients/coordinate_grid.h"
#include "gradients/formation.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace gradist::detail {
namespace {

template <typename Scalar>
FormationSide<Scalar> side(const at::Tensor& values) {
  return {values.const_data_ptr<Scalar>(),
          values.stride(0),
          values.stride(1),
          values.stride(2),
          values.stride(3),
          values.size(1),
          values.size(2),
          values.size(3)};
}

template <typename Scalar>
Formation<Scalar> formation_of(const at::Tensor& input, const at::Tensor& backprops,
                               const kernels::ConvGeometry& geometry) {
  Formation<Scalar> formation;
  formation.backprops = side<Scalar>(backprops);
  formation.input = side<Scalar>(input);
  formation.kernel_rows = geometry.kernel[0];
  formation.kernel_columns = geometry.kernel[1];
  std::copy(geometry.stride.begin(), geometry.stride.end(), formation.stride);
  std::copy(geometry.padding.begin(), geometry.padding.end(), formation.padding);
  std::copy(geometry.dilation.begin(), geometry.dilation.end(), formation.dilation);
  return formation;
}

/// Numbers of single gradients that are put in order together: they stay in a thread's L2.
constexpr int64_t kOrderedNumbers = int64_t{1} << 17;

/// Gradients of examples [begin, end) to `to` [end - begin, O, C, kernel], from the channels last
/// in which they are formed.
template <typename Scalar>
void form_in_order(const Formation<Scalar>& formation, int64_t begin, int64_t end, Scalar* to) {
  const auto coordinates = formation.coordinates();
  const auto kernel = formation.kernel_rows * formation.kernel_columns;
  const auto channels = formation.input.channels;
  if (kernel == 1) {
    form(formation, begin, end, {}, {nullptr, nullptr, to});
    return;
  }
  const auto together = std::max<int64_t>(1, kOrderedNumbers / std::max<int64_t>(1, coordinates));
  std::vector<Scalar> formed(static_cast<size_t>(std::min(together, end - begin) * coordinates));
  for (; begin < end; begin += together) {
    const auto examples = std::min(together, end - begin);
    form(formation, begin, begin + examples, {}, {nullptr, nullptr, formed.data()});
    const auto* from = formed.data();
    for (int64_t o = 0; o < examples * formation.backprops.channels; ++o) {
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t k = 0; k < kernel; ++k) {
          *to++ = from[k * channels + c];
        }
      }
      from += kernel * channels;
    }
  }
}

/// Sums of more bytes are not for each thread to have one: they would not stay in cache.
constexpr int64_t kLargeSum = int64_t{1} << 20;

/// Threads take parts of the examples, with a sum each, or of the columns where that is large.
template <typename Scalar>
kernels::Formed norms_and_sum(const Formation<Scalar>& formation, int64_t examples,
                              std::vector<int64_t> shape, const at::TensorOptions& options) {
  const auto coordinates = formation.coordinates();
  const bool by_columns = coordinates * static_cast<int64_t>(sizeof(Scalar)) > kLargeSum;
  const auto threads = static_cast<int64_t>(at::get_num_threads());
  const auto parts = by_columns ? threads : std::clamp<int64_t>(examples, 1, threads);
  shape.insert(shape.begin(), by_columns ? 1 : parts);
  auto norms = at::empty({by_columns ? parts : 1, examples}, options.dtype(at::kDouble));
  auto sums = at::empty(shape, options);
  auto* norm = norms.template data_ptr<double>();
  auto* sum = sums.template data_ptr<Scalar>();
  on_threads(parts, [&](int64_t part) {
    if (by_columns) {
      form<Scalar>(formation, 0, examples, {part, parts}, {norm + part * examples, sum, nullptr});
    } else {
      form<Scalar>(formation, part * examples / parts, (part + 1) * examples / parts, {},
                   {norm, sum + part * coordinates, nullptr});
    }
  });
  const auto total = [](const at::Tensor& of_parts) {
    return of_parts.size(0) == 1 ? of_parts.squeeze(0) : of_parts.sum(0);
  };
  return {total(norms), total(sums)};
}

// ---- over positions

/// Numbers of d that a part brings side by side: they stay in its thread's L2.
constexpr int64_t kPackedNumbers = int64_t{1} << 17;

/// Fewer positions leave tiles too empty.
constexpr int64_t kFewestAmxPositions = 16;

template <typename Scalar>
PositionSide<Scalar> position_side(const at::Tensor& values) {
  return {values.const_data_ptr<Scalar>(), values.stride(0), values.stride(1), values.size(2)};
}

/// What forms, and what a part may bring side by side.
template <typename Scalar>
struct PositionKernel {
  decltype(&form_positions<Scalar>) form;
  PositionTile tile, most;
};

template <typename Scalar>
kernels::Formed form_over_positions(const at::Tensor& a, const at::Tensor& d, bool with_sum,
                                    const PositionKernel<Scalar>& kernel) {
  const auto examples = a.size(0), positions = a.size(1), inputs = a.size(2), outputs = d.size(2);
  const PositionFormation<Scalar> formation{position_side<Scalar>(d), position_side<Scalar>(a),
                                            examples, positions};
  const auto threads = threads_worth(examples * positions * inputs * outputs);
  const CoordinateGrid grid(outputs, inputs, kernel.tile, kernel.most, threads);
  auto norms = at::zeros({grid.size(), examples}, a.options().dtype(at::kDouble));
  const auto sum = with_sum ? at::empty({outputs, inputs}, a.options()) : at::Tensor();
  const auto backprop_sums = with_sum ? at::empty({examples, outputs}, a.options()) : at::Tensor();
  const auto data = [](const at::Tensor& values) {
    return values.defined() ? values.template data_ptr<Scalar>() : nullptr;
  };
  auto* norms_data = norms.template data_ptr<double>();
  for_each_range(grid, threads, [&](int64_t part) {
    const auto range = grid[part];
    const bool first_columns = range.column_begin == 0;
    kernel.form(formation, range,
                {norms_data + part * examples, data(sum), /*fresh=*/true,
                 first_columns ? data(backprop_sums) : nullptr});
  });
  return {grid.size() == 1 ? norms.squeeze(0) : norms.sum(0), sum, backprop_sums};
}

kernels::Formed form_by_amx(const at::Tensor& a, const at::Tensor& d, bool with_sum) {
  const auto side = [](const at::Tensor& values) {
    return AmxSide{values.const_data_ptr<float>(), values.stride(0), values.stride(1), 1,
                   values.size(2)};
  };
  AmxProducts products{side(d), side(a)};
  products.examples = a.size(0);
  products.positions = a.size(1);
  kernels::Formed formed;
  formed.squared_norms = at::empty({a.size(0)}, a.options().dtype(at::kDouble));
  AmxResult result;
  result.squared_norms = formed.squared_norms.data_ptr<double>();
  if (with_sum) {
    formed.sum = at::empty({d.size(2), a.size(2)}, a.options());
    formed.backprop_sums = at::empty({a.size(0), d.size(2)}, a.options());
    result.sum = formed.sum.data_ptr<float>();
    result.row_sums = formed.backprop_sums.data_ptr<float>();
  }
  multiply_by_amx(products, result, threads_worth(a.numel() * d.size(2)));
  return formed;
}

}  // namespace

bool can_form_positions(const at::Tensor& activations, const at::Tensor& backprops) {
  const auto type = backprops.scalar_type();
  const auto side_by_side = [](const at::Tensor& values) {
    return values.stride(2) == 1 || values.size(2) == 1;
  };
  return activations.is_cpu() && backprops.is_cpu() && activations.scalar_type() == type &&
         (type == at::kFloat || type == at::kDouble) && side_by_side(activations) &&
         side_by_side(backprops);
}

bool can_form_by_amx(const at::Tensor& activations, const at::Tensor& backprops) {
  return has_amx() && can_form_positions(activations, backprops) &&
         backprops.scalar_type() == at::kFloat && activations.size(1) >= kFewestAmxPositions &&
         activations.size(1) <= kAmxPositions &&
         std::min(activations.size(2), backprops.size(2)) >= kAmxRows;
}

kernels::Formed form_positions_norms_and_sum(const at::Tensor& activations,
                                             const at::Tensor& backprops, bool with_sum,
                                             kernels::Multiplier multiplier) {
  if (multiplier == kernels::Multiplier::kAmx && can_form_by_amx(activations, backprops)) {
    const auto formed = form_by_amx(activations, backprops, with_sum);
    // Infinities, which are not their parts' sums, are for the other kernel.
    const auto* norms = formed.squared_norms.const_data_ptr<double>();
    if (std::all_of(norms, norms + formed.squared_norms.numel(),
                    [](double norm) { return std::isfinite(norm); })) {
      return formed;
    }
  }
  const auto most = std::max<int64_t>(1, kPackedNumbers / activations.size(1));
  return AT_DISPATCH_FLOATING_TYPES(backprops.scalar_type(), "form_positions", [&] {
    return form_over_positions<scalar_t>(
        activations, backprops, with_sum,
        {&form_positions<scalar_t>, position_tile<scalar_t>(), {most, activations.size(2)}});
  });
}

bool can_form(const at::Tensor& input, const at::Tensor& backprops,
              const kernels::ConvGeometry& geometry) {
  const auto type = backprops.scalar_type();
  return geometry.groups == 1 && input.is_cpu() && backprops.is_cpu() &&
         input.scalar_type() == type && (type == at::kFloat || type == at::kDouble);
}

kernels::Formed form_norms_and_sum(const at::Tensor& input, const at::Tensor& backprops,
                                   const kernels::ConvGeometry& geometry) {
  kernels::Formed result;
  AT_DISPATCH_FLOATING_TYPES(backprops.scalar_type(), "form_norms_and_sum", [&] {
    result =
        norms_and_sum(formation_of<scalar_t>(input, backprops, geometry), input.size(0),
                      {backprops.size(1), input.size(1), geometry.kernel[0], geometry.kernel[1]},
                      backprops.options());
  });
  return result;
}

at::Tensor form_gradients(const at::Tensor& input, const at::Tensor& backprops,
                          const kernels::ConvGeometry& geometry) {
  auto formed = at::empty(
      {input.size(0), backprops.size(1), input.size(1), geometry.kernel[0], geometry.kernel[1]},
      backprops.options());
  AT_DISPATCH_FLOATING_TYPES(backprops.scalar_type(), "form_gradients", [&] {
    const auto formation = formation_of<scalar_t>(input, backprops, geometry);
    auto* data = formed.data_ptr<scalar_t>();
    const auto examples = input.size(0);
    const auto parts = std::clamp<int64_t>(examples, 1, at::get_num_threads());
    at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
      const auto begin = first * examples / parts, end = last * examples / parts;
      form_in_order(formation, begin, end, data + begin * formation.coordinates());
    });
  });
  return formed;
}

double operations_to_form(const at::Tensor& input, const at::Tensor& backprops,
                          const kernels::ConvGeometry& geometry) {
  return backprops.scalar_type() == at::kDouble
             ? formation_operations(formation_of<double>(input, backprops, geometry))
             : formation_operations(formation_of<float>(input, backprops, geometry));
}

}  // namespace gradist::detail
