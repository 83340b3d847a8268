#pragma once

#include "gc/clustering.h"
#include "gradients/gradient_source.h"

#include <ATen/core/Generator.h>

#include <cstdint>

namespace gradist {

/// The paper's Gradient Clustering: A step (Eqs. 3, 5), N_k, U step (Eqs. 4, 6) with rank-1 centers
/// per parameter, one pass over the N examples an iteration. [Faghri20] Algorithms 1-3.
///
/// As printed the A step collapses: the smallest cluster wins every example. Hence (DESIGN section
/// 4)
///  - the start is k-means++ on the gradients of a random subset, and the first A step is
///  unweighted;
///  - an example's cost of cluster k is (N_k + 1) ||g_i - C_k||^2 with N_k counted without the
///  example itself and kept current
///    while the A step goes through the examples;
///  - after an iteration, a cluster smaller than N / (16 K) takes the far half of the most
///  scattered one, one split each;
///  - a last guard compares the exact variance with SG-B's (guarded() below).
struct LloydOptions {
  int64_t clusters = 128;   ///< K
  int64_t iterations = 10;  ///< A + U steps
  int64_t draws = 0;        ///< b = sum_k b_k the clusters are meant for; 0: K
  bool replacement = true;  ///< how those draws are made; the guard compares with SG-B drawn alike
  int64_t max_memory = 0;   ///< bytes for the factors of a chunk; 0: 1 GiB
};

/// Clusters the source's examples. `objective` of the result is the exact J, `history` J of the
/// rank-1 centers after each iteration (not monotone). The single-example gradients spent are added
/// to `evaluations` where it is given.
Clustering lloyd(GradientSource& source, const LloydOptions& options, at::Generator& generator,
                 int64_t* evaluations = nullptr);

}  // namespace gradist
