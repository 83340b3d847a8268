#pragma once

#include "gradients/layer_use.h"

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

/// The table of layer rules: one function a kind of layer, a file a family. Each makes a LayerUse
/// that runs the layer and knows its per-example gradients. Shapes: B examples, S positions, I
/// inputs, O outputs, C channels. Parameters may be undefined where the layer has none.
namespace gradist::rules {

using Use = std::unique_ptr<LayerUse>;

/// Who decides whether torch or AMX computes the products of a linear layer that are no gradient of
/// its weight: y = x W^T + b, and d W in the backward pass. Null: torch. AMX rounds otherwise.
struct LinearProducts {
  std::shared_ptr<MethodChoices> outputs, backprops;
};

/// y = x W^T + b; x [B, ..., I], W [O, I], b [O]. linear.cpp
Use linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
           LinearProducts products = {});

/// y = x W; x [B, ..., I], W [I, O]. linear.cpp
Use matmul(const at::Tensor& input, const at::Tensor& weight, LinearProducts products = {});

/// Everything about a convolution but its tensors; one number a spatial dimension.
struct Convolution {
  std::vector<int64_t> stride, padding, dilation;
  bool transposed = false;
  std::vector<int64_t> output_padding;
  int64_t groups = 1;
};

/// Convolution in 1, 2 or 3 dimensions: x [B, C, ...], W [O, C / groups, ...], or transposed W
/// [C, O / groups, ...]; b [O]. Zero padding; other kinds pad the input before. conv.cpp
Use convolution(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias,
                const Convolution& convolution);

/// y_s = row t_s of W [V, D] for tokens t [B, ...] in 0..V-1; tokens equal to `padding_index` (-1:
/// none) give W no gradient. embedding.cpp
Use embedding(const at::Tensor& tokens, const at::Tensor& weight, int64_t padding_index);

/// y = (x - mean) / sqrt(var + eps) * w + b over the last dimensions `shape`; w, b of that shape.
/// norm_layers.cpp
Use layer_norm(const at::Tensor& input, std::vector<int64_t> shape, const at::Tensor& weight,
               const at::Tensor& bias, double epsilon);

/// y = x / sqrt(mean(x^2) + eps) * w over the last dimensions `shape`. norm_layers.cpp
Use rms_norm(const at::Tensor& input, std::vector<int64_t> shape, const at::Tensor& weight,
             double epsilon);

/// Per example and group of channels; x [B, C, ...], w and b [C]. InstanceNorm is the case groups
/// = C. norm_layers.cpp
Use group_norm(const at::Tensor& input, int64_t groups, const at::Tensor& weight,
               const at::Tensor& bias, double epsilon);

/// BatchNorm with running statistics, mean and var [C]; x [B, C, ...], w and b [C]. norm_layers.cpp
Use batch_norm(const at::Tensor& input, const at::Tensor& mean, const at::Tensor& variance,
               const at::Tensor& weight, const at::Tensor& bias, double epsilon);

/// y = x * w and y = x + b for parameters that broadcast over the examples. elementwise.cpp
Use scale(const at::Tensor& input, const at::Tensor& weight);
Use shift(const at::Tensor& input, const at::Tensor& bias, double factor);

/// y = p.expand(sizes) for p [...] or [1, ...] and sizes [B, ...]: a token or position the same for
/// all. elementwise.cpp
Use expand(const at::Tensor& parameter, std::vector<int64_t> sizes);

/// A layer of the user's own that has run with detached parameters and given `output`; `gradients`
/// gives [B, *shape] of every parameter, in their order, from its backprops. elementwise.cpp
using CustomGradients = std::function<std::vector<at::Tensor>(const at::Tensor& backprops)>;
Use custom(const at::Tensor& output, const std::vector<at::Tensor>& parameters,
           CustomGradients gradients);

}  // namespace gradist::rules
