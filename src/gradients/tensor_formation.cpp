#include "gradients/tensor_formation.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace gradist::detail {
namespace {

/// [B, C, W] and [B, C, H, W] alike.
template <typename Scalar>
FormationSide<Scalar> side(const at::Tensor& values) {
  const bool plane = values.dim() == 4;
  return {values.const_data_ptr<Scalar>(), values.stride(0),  values.stride(1),
          plane ? values.stride(2) : 0,    values.stride(-1), values.size(1),
          plane ? values.size(2) : 1,      values.size(-1)};
}

template <typename Scalar>
Formation<Scalar> formation_of(const at::Tensor& input, const at::Tensor& backprops,
                               const ConvolutionShape& shape) {
  Formation<Scalar> formation;
  formation.backprops = side<Scalar>(backprops);
  formation.input = side<Scalar>(input);
  const bool plane = input.dim() == 4;
  formation.kernel_rows = plane ? shape.kernel[0] : 1;
  formation.kernel_columns = shape.kernel.back();
  if (plane) {
    formation.stride[0] = shape.stride[0];
    formation.padding[0] = shape.padding[0];
    formation.dilation[0] = shape.dilation[0];
  }
  formation.stride[1] = shape.stride.back();
  formation.padding[1] = shape.padding.back();
  formation.dilation[1] = shape.dilation.back();
  return formation;
}

/// [..., *kernel, C] -> [..., C, *kernel].
at::Tensor channels_before_kernel(const at::Tensor& values, int64_t first_kernel_dimension) {
  return values.movedim(-1, first_kernel_dimension);
}

/// Sizes of the gradients as they are formed, channels last.
std::vector<int64_t> formed_sizes(const at::Tensor& input, const at::Tensor& backprops,
                                  const ConvolutionShape& shape) {
  std::vector<int64_t> sizes{backprops.size(1)};
  sizes.insert(sizes.end(), shape.kernel.begin(), shape.kernel.end());
  sizes.push_back(input.size(1));
  return sizes;
}

/// Calls `work(part, begin, end)` for as many parts of the examples as there are threads: which
/// examples are summed together depends on nothing else.
template <typename Work>
void in_parts(int64_t examples, const Work& work) {
  const auto parts = std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), examples));
  at::parallel_for(0, parts, 1, [&](int64_t first, int64_t last) {
    for (int64_t part = first; part < last; ++part) {
      work(part, part * examples / parts, (part + 1) * examples / parts);
    }
  });
}

template <typename Scalar>
NormsAndSum norms_and_sum(const Formation<Scalar>& formation, int64_t examples,
                          std::vector<int64_t> sizes, const at::TensorOptions& options) {
  const auto parts = std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), examples));
  sizes.insert(sizes.begin(), parts);
  auto norms = at::empty({examples}, options.dtype(at::kDouble));
  auto sums = at::zeros(sizes, options);
  auto* norms_data = norms.template data_ptr<double>();
  auto* sums_data = sums.template data_ptr<Scalar>();
  in_parts(examples, [&](int64_t part, int64_t begin, int64_t end) {
    form(formation, begin, end, {norms_data, sums_data + part * formation.coordinates(), nullptr});
  });
  return {norms, parts == 1 ? sums.squeeze(0) : sums.sum(0), "", ""};
}

}  // namespace

bool can_form(const at::Tensor& input, const at::Tensor& backprops) {
  const auto type = backprops.scalar_type();
  return input.is_cpu() && backprops.is_cpu() && input.scalar_type() == type &&
         (type == at::kFloat || type == at::kDouble) && input.dim() <= 4;
}

NormsAndSum form_norms_and_sum(const at::Tensor& input, const at::Tensor& backprops,
                               const ConvolutionShape& shape) {
  NormsAndSum result;
  AT_DISPATCH_FLOATING_TYPES(backprops.scalar_type(), "form_norms_and_sum", [&] {
    result = norms_and_sum(formation_of<scalar_t>(input, backprops, shape), input.size(0),
                           formed_sizes(input, backprops, shape), backprops.options());
  });
  result.sum = channels_before_kernel(result.sum, 1).contiguous();
  return result;
}

at::Tensor form_gradients(const at::Tensor& input, const at::Tensor& backprops,
                          const ConvolutionShape& shape) {
  auto sizes = formed_sizes(input, backprops, shape);
  sizes.insert(sizes.begin(), input.size(0));
  auto formed = at::empty(sizes, backprops.options());
  AT_DISPATCH_FLOATING_TYPES(backprops.scalar_type(), "form_gradients", [&] {
    const auto formation = formation_of<scalar_t>(input, backprops, shape);
    auto* data = formed.data_ptr<scalar_t>();
    in_parts(input.size(0), [&](int64_t, int64_t begin, int64_t end) {
      form(formation, begin, end, {nullptr, nullptr, data + begin * formation.coordinates()});
    });
  });
  return channels_before_kernel(formed, 2).contiguous();
}

double operations_to_form(const at::Tensor& input, const at::Tensor& backprops,
                          const ConvolutionShape& shape) {
  return backprops.scalar_type() == at::kDouble
             ? formation_operations(formation_of<double>(input, backprops, shape))
             : formation_operations(formation_of<float>(input, backprops, shape));
}

NormsAndSum form_norms_and_sum(const at::Tensor& activations, const at::Tensor& backprops) {
  const ConvolutionShape shape{{1}, {1}, {0}, {1}};
  auto result = form_norms_and_sum(activations.transpose(1, 2), backprops.transpose(1, 2), shape);
  result.sum.squeeze_(-1);
  return result;
}

}  // namespace gradist::detail
