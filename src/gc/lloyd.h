#pragma once

#include "gc/assignment_step.h"
#include "gc/clustering.h"
#include "gradients/gradient_source.h"

#include <ATen/core/Generator.h>

#include <cstdint>
#include <string>
#include <vector>

namespace gradist {

/// What stands for the mean gradient of a cluster.
enum class CenterKind {
  kFactors,  ///< means of activations and of backprops, rank 1: Eq. 6
  kSvd,      ///< the mean gradient, Eq. 4, cut to a rank by SVD
};

/// "factors", "svd".
const std::vector<std::string>& center_names();
CenterKind center_by_name(const std::string& name);

/// Which single examples the first centers are, of a random part of them.
enum class Start {
  kPlusPlus,  ///< far from each other: k-means++ [Arthur07]
  kRandom,
};

/// "k-means++", "random".
const std::vector<std::string>& start_names();
Start start_by_name(const std::string& name);

/// How the A and U steps are made; the defaults are Algorithms 1-3 of [Faghri20] with the rules of
/// LloydOptions.
struct LloydSteps {
  Start start = Start::kPlusPlus;
  CenterKind centers = CenterKind::kFactors;
  int64_t rank = 1;  ///< of kSvd's centers, for each parameter; beyond min(I, O) it is exact
  Weighting weighting = Weighting::kRunning;  ///< in every A step but the first, which has none
  double fraction = 1;    ///< of the examples, a random part in every A step but the first
  int64_t minibatch = 0;  ///< a U step after this many examples of an A step; 0: after all of it
  double decay = 0;       ///< what a U step keeps of what the center stood for (center_update.h)
};

/// Refuses what cannot be, by the names of the program's options.
void validate(const LloydSteps& steps);

/// The paper's Gradient Clustering: A step (Eqs. 3, 5), N_k, U step (Eqs. 4, 6) with centers in
/// factors per parameter. [Faghri20] Algorithms 1-3. Gradients are computed once where their
/// factors fit into the memory (kept_source.h); else one pass over the N examples an iteration, two
/// with centers by SVD, of the fraction where a part of the examples is visited.
///
/// As printed the A step collapses, since the smallest cluster wins every example
/// (docs/gradient-clustering.md). Hence:
///  - The first centers are single examples, and the first A step is unweighted.
///  - Example i's cost of cluster k is (N_k + 1) ||g_i - C_k||^2 with N_k counted without i and
///    kept current while the A step goes through the examples (Weighting::kRunning).
///  - Before an A step, a cluster smaller than N / (16 K) takes the far half of the most scattered
///    one, one split each.
///  - The assignment of lowest J wins, and a last guard compares its exact variance with SG-B's
///    (guard.h).
struct LloydOptions {
  int64_t clusters = 128;   ///< K
  int64_t iterations = 10;  ///< A + U steps
  LloydSteps steps = {};
  std::vector<std::string> parameters = {};  ///< patterns (partial_source.h) of those compared; all
  int64_t draws = 0;                         ///< b = sum_k b_k the clusters are meant for; 0: K
  bool balanced = false;    ///< equal sizes, cut from the clusters one after the other
  bool replacement = true;  ///< how those draws are made; the guard compares with SG-B drawn alike
  int64_t max_memory = 0;   ///< bytes for a chunk (0: 256 MiB), and for what kept_source.h keeps
};

/// Clusters the source's examples. `objective` of the result is the exact J, `history` J of the
/// centers after each iteration, with the distances that each example's last A step saw (not
/// monotone). The single-example gradients spent are added to `evaluations` where it is given.
Clustering lloyd(GradientSource& source, const LloydOptions& options, at::Generator& generator,
                 int64_t* evaluations = nullptr);

/// One U step on a partition, then one A step over all examples: what the guard takes, and what
/// Eqs. 4 and 3 are held against.
Clustering lloyd_step(GradientSource& source, const LloydOptions& options,
                      const Clustering& clustering);

}  // namespace gradist
