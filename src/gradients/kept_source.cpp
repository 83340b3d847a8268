#include "gradients/kept_source.h"

#include "gradients/visit.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>

#include <unistd.h>

#include <algorithm>

namespace gradist {
namespace {

constexpr int64_t kMaxDefaultMemory = int64_t{4} << 30;

int64_t default_memory() {
  const auto physical =
      static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<int64_t>(sysconf(_SC_PAGESIZE));
  return std::min(kMaxDefaultMemory, physical / 4);
}

/// All tensors that a batch is made of: the factors, and the losses last.
std::vector<at::Tensor> factors_of(const GradientBatch& batch) {
  std::vector<at::Tensor> factors;
  for (const auto& parameter : batch.parameters) {
    parameter.mapped([&](const at::Tensor& factor) {
      factors.push_back(factor);
      return factor;
    });
  }
  if (batch.losses.defined()) {
    factors.push_back(batch.losses);
  }
  return factors;
}

bool same_memory(const at::Tensor& a, const at::Tensor& b) {
  return a.data_ptr() == b.data_ptr() && a.sizes() == b.sizes() && a.strides() == b.strides() &&
         a.scalar_type() == b.scalar_type();
}

/// The number of each factor among those that differ, by first appearance.
std::vector<size_t> numbered(const std::vector<at::Tensor>& factors) {
  std::vector<size_t> first, numbers;
  for (size_t f = 0; f < factors.size(); ++f) {
    const auto found = std::find_if(first.begin(), first.end(), [&](size_t other) {
      return same_memory(factors[f], factors[other]);
    });
    numbers.push_back(static_cast<size_t>(found - first.begin()));
    if (found == first.end()) {
      first.push_back(f);
    }
  }
  return numbers;
}

bool same_for_all(const at::Tensor& factor) { return factor.stride(0) == 0; }

}  // namespace

KeptSource::KeptSource(GradientSource& source, int64_t max_memory)
    : source_(source), max_memory_(max_memory > 0 ? max_memory : default_memory()) {}

GradientBatch KeptSource::gradients(const at::Tensor& indices) {
  if (knows(indices)) {
    return kept(indices);
  }
  evaluations_ += indices.numel();
  auto batch = source_.gradients(indices);
  // A single example does not show which factors are the same for all.
  if (keeps_ && indices.numel() > 1) {
    keep(indices, batch);
  }
  return batch;
}

bool KeptSource::knows(const at::Tensor& indices) const {
  return store_ &&
         (store_->count == examples() || store_->known.index_select(0, indices).all().item<bool>());
}

void KeptSource::keep(const at::Tensor& indices, const GradientBatch& batch) {
  if (!store_) {
    store_ = store_like(batch);
  }
  const auto factors = factors_of(batch);
  keeps_ = store_ && numbered(factors) == store_->slot_of;
  const auto begin = begin_of_run(indices);
  for (size_t f = 0; f < factors.size() && keeps_; ++f) {
    auto& slot = store_->slots[store_->slot_of[f]];
    if (slot.size(0) == 1) {
      keeps_ = same_for_all(factors[f]) && at::equal(slot, factors[f].slice(0, 0, 1));
    } else if (begin) {
      slot.slice(0, *begin, *begin + indices.numel()).copy_(factors[f]);
    } else {
      slot.index_copy_(0, indices.to(slot.device()), factors[f]);
    }
  }
  if (!keeps_) {
    store_.reset();
    return;
  }
  store_->known.index_fill_(0, indices, true);
  store_->count = store_->known.sum().item<int64_t>();
}

std::optional<KeptSource::Store> KeptSource::store_like(const GradientBatch& batch) const {
  Store store;
  const auto factors = factors_of(batch);
  store.slot_of = numbered(factors);
  int64_t bytes = 0;
  std::vector<std::vector<int64_t>> sizes;
  for (size_t f = 0; f < factors.size(); ++f) {
    if (store.slot_of[f] == sizes.size()) {
      auto shape = factors[f].sizes().vec();
      shape[0] = same_for_all(factors[f]) ? 1 : examples();
      bytes += c10::multiply_integers(shape) * static_cast<int64_t>(factors[f].element_size());
      sizes.push_back(std::move(shape));
    }
  }
  if (bytes > max_memory_) {
    return std::nullopt;
  }
  for (size_t f = 0; f < factors.size(); ++f) {
    if (store.slot_of[f] == store.slots.size()) {
      const auto& shape = sizes[store.slots.size()];
      store.slots.push_back(shape[0] == 1 && same_for_all(factors[f])
                                ? factors[f].slice(0, 0, 1).clone()
                                : at::empty(shape, factors[f].options()));
    }
  }
  for (const auto& parameter : batch.parameters) {
    store.like.parameters.push_back(
        parameter.mapped([](const at::Tensor& factor) { return factor.slice(0, 0, 0).clone(); }));
  }
  store.known = at::zeros({examples()}, at::kBool);
  return store;
}

GradientBatch KeptSource::kept(const at::Tensor& indices) const {
  std::vector<at::Tensor> chosen;
  for (const auto& slot : store_->slots) {
    if (slot.size(0) == 1) {
      auto sizes = slot.sizes().vec();
      sizes[0] = indices.numel();
      chosen.push_back(slot.expand(sizes));
    } else {
      chosen.push_back(examples_of(slot, indices));
    }
  }
  size_t next = 0;
  const auto factor = [&](const at::Tensor& /*like*/) { return chosen[store_->slot_of[next++]]; };
  GradientBatch batch;
  for (const auto& parameter : store_->like.parameters) {
    batch.parameters.push_back(parameter.mapped(factor));
  }
  if (next < store_->slot_of.size()) {
    batch.losses = factor({});
  }
  return batch;
}

}  // namespace gradist
