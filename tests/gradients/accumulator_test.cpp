#include "gradients/accumulator.h"

#include "support/factors.h"
#include "support/property.h"
#include "support/tensor_near.h"
#include "support/threads.h"

#include <ATen/ATen.h>

#include <string>

namespace gradist {
namespace {

using test::any_between;
using test::flatten;
using test::normal;
using test::normal_factors;
using test::pick;
using test::tensor_near;
using test::Threads;

/// One position, a tied use, more positions than pairs are worth, and a formed gradient.
GradientBatch batch_of(int64_t examples, uint64_t seed) {
  GradientBatch batch;
  batch.parameters = {normal_factors(examples, 1, 3, 2, seed),
                      normal_factors(examples, 2, 2, 3, seed + 1),
                      normal_factors(examples, 4, 3, 2, seed + 2),
                      FactoredGradients::from_dense(normal({examples, 5}, seed + 3), {5}, "bias")};
  return batch;
}

ParameterList like(const GradientBatch& batch) {
  ParameterList parameters;
  for (const FactoredGradients& g : batch.parameters) {
    parameters.push_back(at::empty(g.shape(), g.backprops().options()));
  }
  return parameters;
}

/// Examples 0 .. N - 1 dealt to strata at random; some strata get none.
std::vector<at::Tensor> deal(int64_t examples, int64_t strata) {
  std::vector<std::vector<int64_t>> members(static_cast<size_t>(strata));
  for (int64_t i = 0; i < examples; ++i) {
    members[static_cast<size_t>(any_between(0, strata - 1))].push_back(i);
  }
  std::vector<at::Tensor> tensors;
  for (const auto& list : members) tensors.push_back(at::tensor(list, at::kLong));
  return tensors;
}

MomentAccumulator accumulate(const GradientBatch& examples, const std::vector<at::Tensor>& strata,
                             const MomentAccumulator::Options& options, int64_t chunk) {
  MomentAccumulator sums(like(examples), options);
  for (const Chunk& part : plan_visit(strata, chunk)) {
    const auto batch = pick(examples, part.indices);
    sums.add(batch, batch.squared_norms_per_parameter(), part.segments);
  }
  return sums;
}

MomentAccumulator::Options any_options(const std::vector<at::Tensor>& strata) {
  MomentAccumulator::Options options;
  for (const at::Tensor& members : strata) {
    options.visit_weights.push_back(static_cast<double>(any_between(1, 8)) / 4);
    options.within_weights.push_back(static_cast<double>(any_between(0, 8)) / 2);
    options.visited.push_back(members.numel());
  }
  return options;
}

struct DenseSums {
  at::Tensor sum, squares, within;  ///< [P]
};

DenseSums dense_sums(const at::Tensor& gradients, const std::vector<at::Tensor>& strata,
                     const MomentAccumulator::Options& options) {
  const auto zeros = at::zeros({gradients.size(1)}, at::kDouble);
  DenseSums sums{zeros.clone(), zeros.clone(), zeros.clone()};
  for (size_t k = 0; k < strata.size(); ++k) {
    if (strata[k].numel() == 0) continue;
    const auto rows = gradients.index_select(0, strata[k]);
    sums.sum += options.visit_weights[k] * rows.sum(0);
    sums.squares += options.visit_weights[k] * rows.square().sum(0);
    sums.within += options.within_weights[k] * (rows - rows.mean(0)).square().sum(0);
  }
  return sums;
}

void hold(const ::testing::AssertionResult& result, const std::string& what) {
  if (!result) RC_FAIL(what + ": " + result.message());
}

// Chunks smaller than the strata cut them, larger ones hold several; empty strata come anywhere.
RC_GTEST_PROP(MomentAccumulator, EqualsTheDenseSums, ()) {
  const auto examples = any_between(1, 20), chunk = any_between(1, 12);
  const auto strata = deal(examples, any_between(1, 5));
  const auto options = any_options(strata);
  const auto batch = batch_of(examples, static_cast<uint64_t>(any_between(0, 1'000'000)));
  const auto sums = accumulate(batch, strata, options, chunk);

  const auto G = test::dense(batch);
  const auto expected = dense_sums(G, strata, options);
  // No term exceeds the largest squared entry times the weights.
  const double scale = 4 * static_cast<double>(examples) * (1 + G.square().max().item<double>());
  hold(tensor_near(flatten(sums.sum()), expected.sum, 1e-13, scale), "sum");
  hold(tensor_near(flatten(sums.squares()), expected.squares, 1e-13, scale), "squares");
  hold(tensor_near(flatten(sums.within()), expected.within, 1e-13, scale), "within");
  for (size_t l = 0; l < batch.parameters.size(); ++l) {
    const auto rows = batch.parameters[l].dense().flatten(1);
    for (size_t k = 0; k < strata.size(); ++k) {
      const auto members = rows.index_select(0, strata[k]);
      const auto row = static_cast<int64_t>(l), column = static_cast<int64_t>(k);
      hold(tensor_near(sums.squared_norms()[row][column], members.square().sum(), 1e-12), "R");
      hold(tensor_near(sums.stratum_sum_squared_norms()[row][column], members.sum(0).square().sum(),
                       1e-12, members.abs().sum(0).square().sum().item<double>()),
           "||S||^2");
    }
  }
}

TEST(MomentAccumulator, KeepsOnlyWhatIsWanted) {
  const auto batch = batch_of(6, 1);
  const std::vector<at::Tensor> strata{at::arange(6, at::kLong)};
  MomentAccumulator::Options options{.visit_weights = {1}, .within_weights = {}, .visited = {6}};
  const auto without_within = accumulate(batch, strata, options, 4);
  EXPECT_TRUE(without_within.within().empty());
  EXPECT_TRUE(
      tensor_near(flatten(without_within.squares()), test::dense(batch).square().sum(0), 1e-12));
  options.per_coordinate_squares = false;
  const auto sums_only = accumulate(batch, strata, options, 4);
  EXPECT_TRUE(sums_only.squares().empty());
  EXPECT_TRUE(test::same_bits(sums_only.sum(), without_within.sum()));
  EXPECT_TRUE(test::same_bits(sums_only.squared_norms(), without_within.squared_norms()));
}

TEST(MomentAccumulator, SumsFloatChunksInDouble) {
  // 2^24 + 1 is no float32: a running sum in float32 would stay at 2^24.
  const auto ones = FactoredGradients::from_dense(at::ones({1, 1}, at::kFloat), {1}, "bias");
  const auto large =
      FactoredGradients::from_dense(at::full({1, 1}, 16777216.0, at::kFloat), {1}, "bias");
  MomentAccumulator sums({at::zeros({1})},
                         {.visit_weights = {1}, .within_weights = {}, .visited = {4}});
  for (const auto& gradients : {large, ones, ones, ones}) {
    GradientBatch batch;
    batch.parameters = {gradients};
    sums.add(batch, batch.squared_norms_per_parameter(),
             {{.stratum = 0, .begin = 0, .end = 1, .last = false}});
  }
  EXPECT_EQ(sums.sum()[0].item<double>(), 16777219.0);
}

// One parameter is large enough for several blocks of rows, one is not.
TEST(MomentAccumulator, DoesNotDependOnTheNumberOfThreads) {
  GradientBatch batch;
  batch.parameters = {normal_factors(48, 1, 700, 400, 1, at::kFloat),
                      normal_factors(48, 3, 100, 300, 2, at::kFloat)};
  const std::vector<at::Tensor> strata{at::arange(0, 5, at::kLong), at::arange(5, 45, at::kLong),
                                       at::arange(45, 48, at::kLong)};
  const MomentAccumulator::Options options{
      .visit_weights = {1, 2, 3}, .within_weights = {1, 1, 1}, .visited = {5, 40, 3}};
  const auto with_threads = [&](int count) {
    const Threads threads(count);
    return accumulate(batch, strata, options, 24);
  };
  const auto one = with_threads(1), two = with_threads(2);
  EXPECT_TRUE(test::same_bits(one.sum(), two.sum()));
  EXPECT_TRUE(test::same_bits(one.squares(), two.squares()));
  EXPECT_TRUE(test::same_bits(one.within(), two.within()));
  EXPECT_TRUE(test::same_bits(one.squared_norms(), two.squared_norms()));
  EXPECT_TRUE(test::same_bits(one.stratum_sum_squared_norms(), two.stratum_sum_squared_norms()));
}

}  // namespace
}  // namespace gradist
