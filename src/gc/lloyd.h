#pragma once

#include "gc/clustering.h"
#include "gradients/gradient_source.h"

#include <ATen/core/Generator.h>

#include <cstdint>

namespace gradist {

/// The paper's Gradient Clustering: A step (Eqs. 3, 5), N_k, U step (Eqs. 4, 6) with rank-1 centers
/// per parameter, one pass over the N examples an iteration. [Faghri20] Algorithms 1-3.
///
/// As printed the A step collapses, since the smallest cluster wins every example
/// (docs/gradient-clustering.md). Hence:
///  - The start is k-means++ [Arthur07] on a random subset, and the first A step is unweighted.
///  - Example i's cost of cluster k is (N_k + 1) ||g_i - C_k||^2 with N_k counted without i and
///    kept current while the A step goes through the examples.
///  - Before an A step, a cluster smaller than N / (16 K) takes the far half of the most scattered
///    one, one split each.
///  - The assignment of lowest J wins, and a last guard compares its exact variance with SG-B's
///    (guard.h).
struct LloydOptions {
  int64_t clusters = 128;   ///< K
  int64_t iterations = 10;  ///< A + U steps
  int64_t draws = 0;        ///< b = sum_k b_k the clusters are meant for; 0: K
  bool balanced = false;    ///< equal sizes, cut from the clusters one after the other
  bool replacement = true;  ///< how those draws are made; the guard compares with SG-B drawn alike
  int64_t max_memory = 0;   ///< bytes for the factors of a chunk; 0: 1 GiB
};

/// Clusters the source's examples. `objective` of the result is the exact J, `history` J of the
/// rank-1 centers after each iteration (not monotone). The single-example gradients spent are added
/// to `evaluations` where it is given.
Clustering lloyd(GradientSource& source, const LloydOptions& options, at::Generator& generator,
                 int64_t* evaluations = nullptr);

}  // namespace gradist
