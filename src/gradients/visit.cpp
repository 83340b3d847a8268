#include "gradients/visit.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

namespace gradist {
namespace {

/// A convolutional network takes up to twice the time for chunks whose activations leave the
/// caches.
constexpr int64_t kDefaultMemory = int64_t{1} << 28;
constexpr int64_t kMaxChunk = 1024;

/// Factors, the graph's own copies, products of squares and a snapshot's factors: memory of a chunk
/// over its factors alone.
constexpr int64_t kCopiesOfFactors = 8;

}  // namespace

std::vector<Chunk> plan_visit(const std::vector<at::Tensor>& strata, int64_t chunk_size) {
  TORCH_INTERNAL_ASSERT(chunk_size > 0);
  std::vector<Chunk> chunks;
  std::vector<at::Tensor> pieces;
  std::vector<Segment> segments;
  int64_t filled = 0;
  const auto flush = [&] {
    if (filled > 0) {
      chunks.push_back({at::cat(pieces), segments});
    }
    pieces.clear();
    segments.clear();
    filled = 0;
  };
  for (size_t k = 0; k < strata.size(); ++k) {
    const auto size = strata[k].numel();
    // A stratum that fits into one chunk is never cut.
    if (filled + size > chunk_size && size <= chunk_size) {
      flush();
    }
    for (int64_t taken = 0; taken < size;) {
      const auto piece = std::min(size - taken, chunk_size - filled);
      pieces.push_back(strata[k].slice(0, taken, taken + piece));
      taken += piece;
      segments.push_back({static_cast<int64_t>(k), filled, filled + piece, taken == size});
      filled += piece;
      if (filled == chunk_size) {
        flush();
      }
    }
  }
  flush();
  return chunks;
}

int64_t chunk_size(GradientSource& source, int64_t max_memory) {
  const auto bytes = source.gradients(at::zeros({1}, at::kLong)).bytes();
  const auto budget = max_memory > 0 ? max_memory : kDefaultMemory;
  const auto size = budget / std::max<int64_t>(1, kCopiesOfFactors * bytes);
  return std::clamp<int64_t>(size, 1, kMaxChunk);
}

std::optional<int64_t> begin_of_run(const at::Tensor& indices) {
  const auto contiguous = indices.to(at::kCPU).contiguous();
  const auto* index = contiguous.const_data_ptr<int64_t>();
  for (int64_t i = 1; i < contiguous.numel(); ++i) {
    if (index[i] != index[0] + i) {
      return std::nullopt;
    }
  }
  return contiguous.numel() > 0 ? std::optional(index[0]) : std::nullopt;
}

at::Tensor examples_of(const at::Tensor& all, const at::Tensor& indices) {
  const auto begin = begin_of_run(indices);
  return begin ? all.slice(0, *begin, *begin + indices.numel())
               : all.index_select(0, indices.to(all.device()));
}

}  // namespace gradist
