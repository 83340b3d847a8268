#include "data/stored_inputs.h"

#include "data/compressed_rows.h"

#include <ATen/ATen.h>

namespace gradist {

at::Tensor InputSource::read_range(int64_t begin, int64_t count, const InputScale& scale) const {
  return read(at::arange(begin, begin + count), scale);
}

InputScale InputSource::scale(bool by_feature) const {
  return scale_of(sizes_, by_feature, [this](int64_t begin, int64_t count) {
    return read_range(begin, count, /*scale=*/{});
  });
}

at::Tensor StoredInputs::read(const at::Tensor& examples) const {
  at::Tensor wanted = examples.to(at::kCPU);
  if (rows.defined()) wanted = rows.index_select(0, wanted);
  return inputs_to(source->read(wanted, scale), place);
}

at::Tensor StoredInputs::read_all() const {
  if (rows.defined()) return read(at::arange(size()));
  return inputs_to(source->read_range(0, size(), scale), place);
}

}  // namespace gradist
