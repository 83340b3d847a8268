#pragma once

#include "gc/clustering.h"
#include "gradients/gradient_source.h"

#include <ATen/core/Generator.h>

#include <cstdint>
#include <functional>

namespace gradist {

struct GuardOptions {
  int64_t draws = 0;        ///< b = sum_k b_k of the stratified estimate; 0: K
  bool replacement = true;  ///< how both estimates draw
  int64_t max_memory = 0;   ///< bytes for the factors of a chunk; 0: 256 MiB
};

/// One step of the clustering algorithm from a given partition.
using ClusteringStep = std::function<Clustering(const Clustering&)>;

/// The last guard of every clustering algorithm (docs/gradient-clustering.md): right after a
/// refresh a stratified estimate must not be worse than SG-B at the same number of draws. Computes
/// the exact variance of `candidate`; if it exceeds SG-B's, clusters of equal size are cut from its
/// order (then from random orders) until it does not, and `step` is taken as long as it lowers the
/// variance. With replacement a random equal partition meets the bound in expectation,
/// E[J] = sum_k N_k (N_k - 1) trCov N / (N - 1), so few cuts suffice. Without replacement no
/// partition may meet it where K does not divide N (three equidistant gradients, K = 2); the best
/// cut seen is taken then. Sets `objective`.
Clustering guarded(GradientSource& source, Clustering candidate, const GuardOptions& options,
                   const ClusteringStep& step, at::Generator& generator);

}  // namespace gradist
