#pragma once

#include "data/libsvm.h"

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace gradist {

/// A sparse tensor [rows, features] in compressed rows (CSR): row i has the values starts[i] to
/// starts[i + 1] (excluded), in the columns that stand beside them.
at::Tensor compressed_rows(const at::Tensor& starts, const at::Tensor& columns,
                           const at::Tensor& values, int64_t rows, int64_t features);

/// A copy of what a reader found, with at least as many features.
at::Tensor compressed_rows(const SparseRows& rows, int64_t features);

/// The rows `rows` (int64 [B], on the tensor's device) of such a tensor.
at::Tensor select_rows(const at::Tensor& sparse, const at::Tensor& rows);

/// A dense tensor or compressed rows on another device or in another floating-point type.
at::Tensor inputs_to(const at::Tensor& inputs, const at::TensorOptions& place);

}  // namespace gradist
