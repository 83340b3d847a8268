#pragma once

#include "gc/clustering.h"
#include "gradients/gradient_source.h"

#include <ATen/core/Generator.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gradist {

/// Gradient Clustering by descent: moves of single examples that truly lower J = sum_k N_k SSE_k,
/// on random sketches of their gradients, or for N <= 4096 on all inner products where these fit
/// into the memory. From the former clusters where there are some, else from a random partition of
/// equal sizes; and the guard of guard.h at the end.
struct DescentOptions {
  int64_t clusters = 128;   ///< K
  int64_t sweeps = 10;      ///< over all examples, at most; fewer where nothing moves any more, or
                            ///< where one on sketches lowers J by less than 0.5 %
  int64_t draws = 0;        ///< b = sum_k b_k the clusters are meant for; 0: K
  bool balanced = false;    ///< sizes of N / K each (in proportion to whole draws where K < b)
  bool replacement = true;  ///< how those draws are made; the guard compares with SG-B drawn alike
  double memory = 4;        ///< w >= 0, weight of the gradients at the former refresh while its
                            ///< clusters are worth something
  int64_t sketch = 16;      ///< side of a sketch: sketch x sketch numbers a parameter, of which a
                            ///< side no wider than that is kept as it is
  std::vector<std::string> parameters = {};  ///< patterns (partial_source.h) of those compared; all
  int64_t max_memory = 0;  ///< bytes for a chunk (0: 256 MiB), for the sketches or inner products
                           ///< (0: 1 GiB), and for what kept_source.h keeps
};

/// What a descent leaves for the next one: the sketches, or the inner products, of its gradients.
struct DescentMemory {
  at::Tensor rows;  ///< [N, D]
  at::Tensor gram;  ///< [N, N]
};

/// Clusters the source's examples, from `former` unless it is null. `history` is the J of the
/// sketches at the start and after each sweep, which never rises; `objective` is the exact J. One
/// pass over the examples where their factors fit into the memory (kept_source.h); else one for the
/// sketches and one for the guard, and where N sketches do not fit either, one for each sweep.
/// Single-example gradients spent are added to `evaluations` where it is given.
///
/// With a `memory` that a former descent has filled, the moves lower J + w (1 - r)^4 J~, where J~
/// is the objective of the gradients there, and r the J that the `former` clusters have now, as the
/// moves see it, over that of random clusters of equal size (at most 1). Pairs that were alike at
/// both times are likely to stay so until the next refresh, and clusters go stale more slowly;
/// where nothing is left of the former clusters (r = 1), as of those of an untrained network,
/// nothing is remembered. Three sets of sketches are then kept for a while, if they fit into the
/// memory.
Clustering descent(GradientSource& source, const DescentOptions& options, const Clustering* former,
                   at::Generator& generator, int64_t* evaluations = nullptr,
                   DescentMemory* memory = nullptr);

}  // namespace gradist
