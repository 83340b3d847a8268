#include "data/compressed_rows.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

namespace gradist {
namespace {

template <class Number>
at::Tensor copied(const std::vector<Number>& values) {
  return at::tensor(at::ArrayRef<Number>(values));
}

}  // namespace

/// torch warns once, at the first such tensor of a process, that they are "beta": nothing a user of
/// gradist could act on.
at::Tensor compressed_rows(const at::Tensor& starts, const at::Tensor& columns,
                           const at::Tensor& values, int64_t rows, int64_t features) {
  class Silent final : public c10::WarningHandler {
    void process(const c10::Warning& /*warning*/) override {}
  };
  Silent silent;
  const c10::WarningUtils::WarningHandlerGuard without_warning(&silent);
  return at::_sparse_csr_tensor_unsafe(starts, columns, values, {rows, features},
                                       values.options().layout(at::kSparseCsr));
}

at::Tensor compressed_rows(const SparseRows& rows, int64_t features) {
  return compressed_rows(copied(rows.starts), copied(rows.columns), copied(rows.values),
                         rows.rows(), features);
}

at::Tensor select_rows(const at::Tensor& sparse, const at::Tensor& rows) {
  const at::Tensor starts = sparse.crow_indices();
  const at::Tensor begins = starts.index_select(0, rows);
  const at::Tensor counts = starts.index_select(0, rows + 1) - begins;
  const at::Tensor new_starts = at::cat({at::zeros({1}, counts.options()), counts.cumsum(0)});
  const at::Tensor shift = begins - new_starts.slice(0, 0, rows.numel());
  const at::Tensor entries = at::arange(new_starts[-1].item<int64_t>(), counts.options()) +
                             shift.repeat_interleave(counts);
  return compressed_rows(new_starts, sparse.col_indices().index_select(0, entries),
                         sparse.values().index_select(0, entries), rows.numel(), sparse.size(1));
}

at::Tensor inputs_to(const at::Tensor& inputs, const at::TensorOptions& place) {
  if (inputs.layout() != at::kSparseCsr) return inputs.to(place);
  const at::Device device = place.device();
  return compressed_rows(inputs.crow_indices().to(device), inputs.col_indices().to(device),
                         inputs.values().to(place), inputs.size(0), inputs.size(1));
}

}  // namespace gradist
