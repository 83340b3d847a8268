#pragma once

#include "gradients/gradient_source.h"

#include <cstdint>
#include <optional>
#include <vector>

namespace gradist {

/// A run of examples of one stratum inside a chunk: positions [begin, end) of the chunk.
struct Segment {
  int64_t stratum = 0;
  int64_t begin = 0;
  int64_t end = 0;
  bool last = true;  ///< no later segment continues this stratum
};

/// Examples measured together, in stratum order, so that memory grows with the chunk and not with N
/// or K x P.
struct Chunk {
  at::Tensor indices;  ///< [B] int64
  std::vector<Segment> segments;
};

/// Cuts the concatenation of `strata` (index tensors, empty ones allowed) into chunks of at most
/// `chunk_size` examples. A stratum is cut only where it is larger than a whole chunk.
std::vector<Chunk> plan_visit(const std::vector<at::Tensor>& strata, int64_t chunk_size);

/// Examples a chunk may hold so that factors and graph stay within `max_memory` bytes (0: a default
/// of 256 MiB, beyond which passes get slower), between 1 and 1024. Found from the factors of one
/// example, so it is the same in every run.
int64_t chunk_size(GradientSource& source, int64_t max_memory);

/// Where the indices [B] are begin, begin + 1, ...: begin.
std::optional<int64_t> begin_of_run(const at::Tensor& indices);

/// The examples `indices` [B] of `all` [N, ...]: a view of it where they are a run.
at::Tensor examples_of(const at::Tensor& all, const at::Tensor& indices);

}  // namespace gradist
