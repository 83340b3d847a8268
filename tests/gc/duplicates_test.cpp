// Repeated points: half of the examples are copies of a few, the other half differ, all normal. The
// part of J that the copies have is
//
//   sum over copies i of N_k ||g_i - C_k||^2    of    J = sum over all i,
//
// k the cluster of i: 0 where they are among themselves.

#include "gc/descent.h"
#include "gc/lloyd.h"
#include "gc/objective.h"
#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/threads.h"

#include <ATen/ATen.h>

#include <string>

namespace gradist {
namespace {

using test::generator_of;
using test::normal;

/// Up to 4,096 examples the descent forms all inner products; beyond it sees sketches.
constexpr int64_t kFew = 800, kMany = 4'200;

struct Repeated {
  at::Tensor kind_of;  ///< [N]: which point an example repeats, -1 for the others
  at::Tensor rows;     ///< [N, P]
};

Repeated half_repeated(int64_t examples, int64_t kinds, int64_t width, uint64_t seed,
                       at::ScalarType dtype) {
  const auto place = at::arange(examples, at::kLong);
  const auto repeats = place.remainder(2) == 0;
  const auto kind = place.floor_divide(2).remainder(kinds);
  const auto copies = normal({kinds, width}, seed + 1, dtype).index_select(0, kind);
  return {at::where(repeats, kind, at::full_like(kind, -1)),
          at::where(repeats.unsqueeze(1), copies, normal({examples, width}, seed, dtype))};
}

/// J of the copies over all of it.
double part_of_copies(const Repeated& examples, const Clustering& clustering) {
  double of_copies = 0, of_all = 0;
  for (const at::Tensor& members : clustering.members()) {
    if (members.numel() == 0) continue;
    const auto rows = examples.rows.index_select(0, members).to(at::kDouble);
    const auto each = (rows - rows.mean(0)).square().sum(1) * members.numel();
    const auto copies = examples.kind_of.index_select(0, members) >= 0;
    of_copies += each.masked_select(copies).sum().item<double>();
    of_all += each.sum().item<double>();
  }
  return of_copies / of_all;
}

void expect_together(const at::Tensor& kind_of, int64_t kinds, const Clustering& clustering) {
  for (int64_t kind = 0; kind < kinds; ++kind) {
    const auto clusters = clustering.assignments().masked_select(kind_of == kind);
    EXPECT_EQ(clusters.min().item<int64_t>(), clusters.max().item<int64_t>()) << "point " << kind;
  }
}

/// By gc's algorithm or gc-descent's, with their own defaults.
Clustering clustered(const std::string& method, GradientSource& source, int64_t clusters,
                     uint64_t seed) {
  const test::Threads one(1);  // small products
  auto generator = generator_of(seed);
  return method == "lloyd" ? lloyd(source, {.clusters = clusters}, generator)
                           : descent(source, {.clusters = clusters}, nullptr, generator);
}

class Duplicates : public ::testing::TestWithParam<std::string> {
 protected:
  void expect_gathered(int64_t examples, int64_t kinds, int64_t clusters, int64_t width,
                       uint64_t seed, at::ScalarType dtype = at::kDouble) {
    const auto repeated = half_repeated(examples, kinds, width, seed, dtype);
    test::VectorSource source(repeated.rows);
    const auto clustering = clustered(GetParam(), source, clusters, seed);
    SCOPED_TRACE(std::to_string(examples) + " examples, " + std::to_string(kinds) + " points, " +
                 std::to_string(clusters) + " clusters, " + std::to_string(width) + " wide");
    expect_together(repeated.kind_of, kinds, clustering);
    EXPECT_LE(part_of_copies(repeated, clustering), 1e-3);
  }
};

TEST_P(Duplicates, ShareOneClusterAndAreNoPartOfTheObjective) {
  for (const int64_t examples : {kFew, kMany}) {
    for (const int64_t kinds : {5, 10}) {
      for (const int64_t clusters : {40, 100}) {
        expect_gathered(examples, kinds, clusters, /*width=*/30, /*seed=*/1);
        expect_gathered(examples, kinds, clusters, /*width=*/100, /*seed=*/2);
      }
    }
  }
}

TEST_P(Duplicates, ShareOneClusterInFloat32) {
  for (const int64_t examples : {kFew, kMany}) {
    expect_gathered(examples, 10, 100, /*width=*/30, /*seed=*/3, at::kFloat);
  }
}

// Nothing but copies: clusters of their own have no objective, and are found.
TEST_P(Duplicates, AloneLeaveNothing) {
  for (const int64_t examples : {kFew, kMany}) {
    for (const int64_t kinds : {5, 10}) {
      const auto kind_of = at::arange(examples, at::kLong).remainder(kinds);
      const auto rows = normal({kinds, 8}, 4).index_select(0, kind_of);
      test::VectorSource source(rows);
      const auto N = static_cast<double>(examples);
      const double rounding = 1e-14 * N * rows.square().sum().item<double>();
      EXPECT_LE(exact_objective(source, Clustering(kind_of)).objective, rounding);
      const auto clustering = clustered(GetParam(), source, 2 * kinds, 5);
      expect_together(kind_of, kinds, clustering);
      EXPECT_LE(clustering.objective, rounding);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, Duplicates, ::testing::Values("lloyd", "descent"),
                         [](const auto& tested) { return tested.param; });

}  // namespace
}  // namespace gradist
