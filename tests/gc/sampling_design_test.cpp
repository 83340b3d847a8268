#include "gc/sampling_design.h"

#include "support/oracles.h"
#include "support/problems.h"
#include "support/property.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

namespace gradist {
namespace {

using test::any_between;
using test::generator_of;
using test::refusal;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<int64_t> list_of(const at::Tensor& values) {
  const auto contiguous = values.contiguous();
  const auto* first = contiguous.const_data_ptr<int64_t>();
  return {first, first + contiguous.numel()};
}

/// Sizes 3, 1, 0, 4.
Clustering four_clusters() {
  return Clustering(at::tensor({0, 3, 0, 3, 1, 3, 0, 3}, at::kLong), 4);
}

TEST(SamplingDesign, DrawsMembersWithTheirWeights) {
  for (const bool replacement : {true, false}) {
    const auto design = stratified_design(four_clusters(), 6, replacement);
    EXPECT_EQ(design.draws(), 6);
    auto generator = generator_of(1);
    for (int repeat = 0; repeat < 20; ++repeat) {
      const auto batch = design.draw(generator);
      ASSERT_EQ(batch.indices.sizes(), at::IntArrayRef{6});
      ASSERT_EQ(batch.weights.sizes(), at::IntArrayRef{6});
      EXPECT_EQ(batch.weights.scalar_type(), at::kDouble);
      const auto indices = list_of(batch.indices);
      size_t position = 0;
      for (const Stratum& stratum : design.strata) {
        const auto members = list_of(stratum.members);
        for (int64_t b = 0; b < stratum.draws; ++b, ++position) {
          EXPECT_THAT(members, ::testing::Contains(indices[position]));
          EXPECT_EQ(batch.weights[static_cast<int64_t>(position)].item<double>(), stratum.weight);
        }
      }
    }
  }
}

TEST(SamplingDesign, WeightsAddUpToOne) {
  for (const int64_t draws : {3, 4, 7, 8}) {
    const auto design = stratified_design(four_clusters(), draws, true);
    auto generator = generator_of(2);
    EXPECT_NEAR(design.draw(generator).weights.sum().item<double>(), 1, 1e-14);
  }
}

TEST(SamplingDesign, EmptyClustersStayAsStrataWithoutDraws) {
  const auto design = stratified_design(four_clusters(), 3, true);
  ASSERT_EQ(design.strata.size(), 4);
  EXPECT_EQ(design.strata[2].draws, 0);
  EXPECT_EQ(design.strata[2].members.numel(), 0);
  EXPECT_EQ(design.strata[3].weight, 4.0 / 8);  // N_k / N for one draw, Eq. 1
}

TEST(SamplingDesign, DrawsWithoutReplacementAreDistinct) {
  const auto design = uniform_design(9, 7, false);
  auto generator = generator_of(3);
  for (int repeat = 0; repeat < 50; ++repeat) {
    const auto indices = list_of(design.draw(generator).indices);
    EXPECT_EQ(std::set<int64_t>(indices.begin(), indices.end()).size(), 7);
  }
  const auto all = uniform_design(9, 9, false).draw(generator).indices;
  EXPECT_TRUE(at::equal(std::get<0>(all.sort()), at::arange(9, at::kLong)));
}

TEST(SamplingDesign, DrawsFollowTheGenerator) {
  const auto design = uniform_design(1000, 50, true);
  auto first = generator_of(4), same = generator_of(4), other = generator_of(5);
  const auto batch = design.draw(first);
  EXPECT_TRUE(at::equal(batch.indices, design.draw(same).indices));
  EXPECT_FALSE(at::equal(batch.indices, design.draw(other).indices));
  EXPECT_FALSE(at::equal(batch.indices, design.draw(first).indices));
}

/// A bound that chi-square with k degrees of freedom exceeds with probability at most 1e-4: k + 2
/// sqrt(k x) + 2 x, x = ln 1e4 (Laurent and Massart 2000, Lemma 1).
double chi_square_bound(int64_t degrees) {
  const double k = static_cast<double>(degrees), x = std::log(1e4);
  return k + 2 * std::sqrt(k * x) + 2 * x;
}

/// How often each sorted draw came up, against equal chances of `outcomes` of them.
double chi_square(const SamplingDesign& design, int64_t outcomes, int64_t repeats, uint64_t seed) {
  auto generator = generator_of(seed);
  std::map<std::vector<int64_t>, int64_t> counts;
  for (int64_t r = 0; r < repeats; ++r) {
    auto indices = list_of(design.draw(generator).indices);
    std::sort(indices.begin(), indices.end());
    ++counts[indices];
  }
  const double expected = static_cast<double>(repeats) / static_cast<double>(outcomes);
  double statistic = expected * static_cast<double>(outcomes - static_cast<int64_t>(counts.size()));
  for (const auto& [indices, count] : counts) {
    statistic += std::pow(static_cast<double>(count) - expected, 2) / expected;
  }
  return statistic;
}

TEST(SamplingDesign, EveryExampleIsEquallyLikely) {
  EXPECT_LT(chi_square(uniform_design(10, 1, true), 10, 4000, 6), chi_square_bound(9));
}

TEST(SamplingDesign, EverySubsetIsEquallyLikelyWithoutReplacement) {
  EXPECT_LT(chi_square(uniform_design(5, 2, false), 10, 4000, 7), chi_square_bound(9));
}

TEST(SamplingDesign, StrataAreDrawnIndependently) {
  // One of 3, one of 1 and one of 4 members: 12 triples.
  EXPECT_LT(chi_square(stratified_design(four_clusters(), 3, true), 12, 4000, 8),
            chi_square_bound(11));
}

TEST(SamplingDesign, FinitePopulationFactor) {
  const auto factor = [](int64_t members, int64_t draws, bool replacement) {
    const Stratum stratum{at::arange(members, at::kLong), draws, 1.0};
    return SamplingDesign{{stratum}, replacement}.finite_population_factor(stratum);
  };
  EXPECT_EQ(factor(10, 4, false), 6.0 / 9);
  EXPECT_EQ(factor(10, 10, false), 0);
  EXPECT_EQ(factor(10, 1, false), 1);
  EXPECT_EQ(factor(1, 1, false), 1);
  EXPECT_EQ(factor(10, 4, true), 1);
  EXPECT_EQ(factor(10, 20, true), 1);
}

TEST(SamplingDesign, RefusesDrawsThatCannotBeMade) {
  EXPECT_THAT(refusal([] { uniform_design(5, 0, true); }),
              AllOf(test::is_one_line(), HasSubstr("draws = 0"), HasSubstr(">= 1")));
  EXPECT_THAT(refusal([] { uniform_design(5, 6, false); }),
              AllOf(test::is_one_line(), HasSubstr("draws = 6"), HasSubstr("5")));
  EXPECT_EQ(refusal([] { uniform_design(5, 6, true); }), "");
  EXPECT_THAT(refusal([] { stratified_design(four_clusters(), 2, true); }),
              AllOf(test::is_one_line(), HasSubstr("draws = 2"), HasSubstr("3")));
}

TEST(WithImportance, ProbabilitiesAreAMixtureOfNormsAndUniform) {
  const auto squared_norms = at::tensor({1.0, 4.0, 9.0, 0.0, 16.0, 1.0, 0.0, 25.0}, at::kDouble);
  const auto design =
      with_importance(stratified_design(four_clusters(), 5, true), squared_norms, 0.3);
  const auto q = squared_norms.sqrt() / squared_norms.sqrt().mean() * 0.7 + 0.3;
  EXPECT_TRUE(design.has_probabilities());
  EXPECT_TRUE(uniform_design(8, 5, true).is_uniform());
  EXPECT_FALSE(with_importance(uniform_design(8, 5, true), squared_norms, 0.3).is_uniform());
  EXPECT_FALSE(stratified_design(four_clusters(), 5, true).is_uniform());
  for (const Stratum& stratum : design.strata) {
    const auto own = q.index_select(0, stratum.members);
    EXPECT_TRUE(test::tensor_near(stratum.probabilities, own / own.sum(), 1e-14));
  }
  auto generator = generator_of(10);
  const auto batch = design.draw(generator);
  EXPECT_EQ(batch.indices.numel(), 5);
  EXPECT_THAT(refusal([&] { with_importance(design, squared_norms, 0); }),
              AllOf(test::is_one_line(), HasSubstr("importance-mix = 0")));
  EXPECT_THAT(refusal([&] {
                with_importance(stratified_design(four_clusters(), 5, false), squared_norms, 0.3);
              }),
              AllOf(test::is_one_line(), HasSubstr("replacement = no")));
}

TEST(WithImportance, WhereAllGradientsAreZeroDrawsAreUniform) {
  const auto design = with_importance(uniform_design(4, 2, true), at::zeros({4}, at::kDouble), 0.3);
  EXPECT_TRUE(test::tensor_near(design.strata.front().probabilities,
                                at::full({4}, 0.25, at::kDouble), 1e-15));
}

}  // namespace
}  // namespace gradist
