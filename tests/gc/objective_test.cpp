#include "gc/objective.h"

#include "support/factors.h"
#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

#include <string>

namespace gradist {
namespace {

using test::dense_objective;
using test::dense_trace_covariance;
using test::make_problem;
using test::near;
using test::normal;

/// Every problem has 5 examples; clusters 1 and 3 of four are empty.
const at::Tensor kAssignments = at::tensor({2, 0, 2, 0, 2}, at::kLong);

class ObjectiveOnProblems : public ::testing::TestWithParam<std::string> {};

TEST_P(ObjectiveOnProblems, IsThatOfTheFormedGradients) {
  const auto problem = make_problem(GetParam());
  const auto G = problem.source->oracle();
  const auto exact = exact_objective(*problem.source, Clustering(kAssignments, 4));
  EXPECT_TRUE(near(exact.objective, dense_objective(G, kAssignments, 4), 1e-10));
  EXPECT_TRUE(near(exact.trace_covariance, dense_trace_covariance(G), 1e-10));
}

INSTANTIATE_TEST_SUITE_P(Problems, ObjectiveOnProblems, ::testing::ValuesIn(test::problem_names()),
                         [](const auto& tested) { return tested.param; });

test::FactoredSource factored_source(int64_t examples) {
  GradientBatch batch;
  batch.parameters = {test::normal_factors(examples, 3, 4, 3, 1),
                      test::normal_factors(examples, 1, 3, 2, 2)};
  return test::FactoredSource(batch);
}

TEST(ExactObjective, KeepsTheScatterOfEachCluster) {
  auto source = factored_source(30);
  const auto assignments = at::arange(30, at::kLong).remainder(4);
  const auto exact = exact_objective(source, Clustering(assignments, 5));
  ASSERT_EQ(exact.scatter.size(), 5);
  double total = 0;
  for (int64_t k = 0; k < 5; ++k) {
    const auto members = source.oracle().index({assignments == k});
    const double expected =
        k == 4 ? 0 : dense_objective(members, at::zeros({members.size(0)}, at::kLong), 1);
    EXPECT_TRUE(near(exact.scatter[static_cast<size_t>(k)], expected, 1e-10));
    total += expected;
  }
  EXPECT_TRUE(near(exact.objective, total, 1e-10));
}

// Every parameter alone is a problem of its own.
TEST_P(ObjectiveOnProblems, KnowsTheScatterOfEachParameter) {
  const auto problem = make_problem(GetParam());
  const auto exact = exact_objective(*problem.source, Clustering(kAssignments, 4));
  const auto parts = problem.source->oracle_per_parameter();
  ASSERT_EQ(exact.parameter_scatter.sizes(),
            at::IntArrayRef({static_cast<int64_t>(parts.size()), 4}));
  const double scale = 25 * problem.source->oracle().square().sum().item<double>();
  for (size_t l = 0; l < parts.size(); ++l) {
    for (int64_t k = 0; k < 4; ++k) {
      const auto members = parts[l].index({kAssignments == k});
      const auto alone = at::zeros({members.size(0)}, at::kLong);
      const double expected = members.size(0) == 0 ? 0 : dense_objective(members, alone, 1);
      EXPECT_TRUE(near(exact.parameter_scatter[static_cast<int64_t>(l)][k].item<double>(), expected,
                       1e-12, scale));
    }
  }
}

TEST(ExactObjective, DoesNotDependOnTheMemory) {
  auto source = factored_source(30);
  const Clustering clustering(at::arange(30, at::kLong).remainder(4));
  const auto exact = exact_objective(source, clustering);
  for (const int64_t max_memory : {1, 10'000, 40'000}) {
    const auto chunked = exact_objective(source, clustering, max_memory);
    EXPECT_TRUE(near(chunked.objective, exact.objective, 1e-12));
    EXPECT_TRUE(near(chunked.trace_covariance, exact.trace_covariance, 1e-12));
  }
}

TEST(ExactObjective, IsNeverNegative) {
  test::VectorSource equal(at::full({7, 3}, 0.1, at::kDouble));
  const auto exact =
      exact_objective(equal, Clustering(at::tensor({0, 0, 1, 1, 1, 2, 2}, at::kLong)));
  EXPECT_GE(exact.objective, 0);
  EXPECT_LE(exact.objective, 1e-14);
  EXPECT_GE(exact.trace_covariance, 0);
  EXPECT_LE(exact.trace_covariance, 1e-16);
}

/// tr Cov of sum_i w_i g_i over all draws.
double enumerated_variance(const SamplingDesign& design, const at::Tensor& gradients) {
  std::vector<at::Tensor> estimates;
  std::vector<double> probabilities;
  for (const auto& draw : test::enumerate_draws(design)) {
    estimates.push_back(draw.batch.weights.matmul(gradients.index_select(0, draw.batch.indices)));
    probabilities.push_back(draw.probability);
  }
  const auto moments =
      test::moments_of(at::stack(estimates), at::tensor(probabilities, at::kDouble));
  EXPECT_TRUE(test::tensor_near(moments.mean, gradients.mean(0), 1e-12));  // unbiased
  return moments.variance.sum().item<double>();
}

TEST(StratifiedVariance, EqualsTheEnumerationOfAllDraws) {
  test::VectorSource source(normal({6, 3}, 3));
  const Clustering clustering(at::tensor({0, 2, 0, 0, 2, 0}, at::kLong), 4);  // sizes 4, 0, 2, 0
  const auto exact = exact_objective(source, clustering);
  for (const bool replacement : {true, false}) {
    for (const int64_t draws : {2, 3, 4, 6}) {
      const auto design = stratified_design(clustering, draws, replacement);
      const double expected = enumerated_variance(design, source.oracle());
      EXPECT_TRUE(near(stratified_variance(design, exact), expected, 1e-12, 1 + expected))
          << draws << (replacement ? " with" : " without") << " replacement";
    }
  }
}

TEST(StratifiedVariance, IsTheObjectiveOverNSquaredForOneDrawEach) {
  auto source = factored_source(12);
  const Clustering clustering(at::arange(12, at::kLong).remainder(3));
  const auto exact = exact_objective(source, clustering);
  EXPECT_TRUE(near(stratified_variance(stratified_design(clustering, 3, true), exact),
                   exact.objective / 144, 1e-14));
}

TEST(UniformVariance, EqualsTheEnumerationOfAllDraws) {
  const auto gradients = normal({5, 3}, 4);
  const double trace = dense_trace_covariance(gradients);
  for (const int64_t draws : {1, 2, 3}) {
    for (const bool replacement : {true, false}) {
      const double expected = enumerated_variance(uniform_design(5, draws, replacement), gradients);
      EXPECT_TRUE(near(uniform_variance(5, draws, replacement, trace), expected, 1e-12));
    }
  }
  EXPECT_EQ(uniform_variance(5, 5, false, trace), 0);
  EXPECT_EQ(uniform_variance(1, 1, false, trace), trace);
}

TEST(UniformVariance, IsTheStratifiedOneOfASingleCluster) {
  test::VectorSource source(normal({9, 4}, 5));
  const Clustering all(at::zeros({9}, at::kLong));
  const auto exact = exact_objective(source, all);
  for (const bool replacement : {true, false}) {
    for (const int64_t draws : {1, 4, 9}) {
      EXPECT_TRUE(near(stratified_variance(stratified_design(all, draws, replacement), exact),
                       uniform_variance(9, draws, replacement, exact.trace_covariance), 1e-12));
    }
  }
}

}  // namespace
}  // namespace gradist
