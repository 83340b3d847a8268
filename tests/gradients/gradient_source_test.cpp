#include "gradients/gradient_source.h"

#include "support/oracles.h"
#include "support/problems.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

#include <limits>
#include <stdexcept>

namespace gradist {
namespace {

using test::dense;
using test::make_problem;
using test::normal;
using test::same_bits;

ParameterList other_values(const GradientSource& source) {
  ParameterList values;
  for (const at::Tensor& parameter : source.parameters()) {
    values.push_back(normal(parameter.sizes().vec(), 70 + values.size(), parameter.scalar_type()));
  }
  return values;
}

TEST(GradientSource, CountsItsParameters) {
  EXPECT_EQ(make_problem("mlp").source->parameter_count(), 4 * 2 + 4 + 2 * 4);
}

TEST(GradientSource, CopiesOfParametersAreTheirOwn) {
  auto problem = make_problem("mlp");
  const auto copies = copy_parameters(*problem.source);
  EXPECT_TRUE(same_bits(copies, problem.source->parameters()));
  for (const at::Tensor& copy : copies) EXPECT_FALSE(copy.requires_grad());
  problem.source->move(1.0, 1);
  EXPECT_FALSE(same_bits(copies, problem.source->parameters()));
}

TEST(ParameterSwap, MeasuresAtTheOtherValues) {
  const auto indices = at::arange(4, at::kLong);
  auto moved = make_problem("mlp"), problem = make_problem("mlp");
  moved.source->move(0.5, 1);
  const auto before = dense(problem.source->gradients(indices));
  {
    const ParameterSwap swap(*problem.source, copy_parameters(*moved.source));
    EXPECT_TRUE(same_bits(dense(problem.source->gradients(indices)),
                          dense(moved.source->gradients(indices))));
  }
  EXPECT_TRUE(same_bits(dense(problem.source->gradients(indices)), before));
}

TEST(ParameterSwap, PutsTheSameBitsBack) {
  auto problem = make_problem("logistic");
  {
    const at::NoGradGuard no_grad;
    problem.source->parameters()[1][0] = -0.0;
    problem.source->parameters()[1][1] = std::numeric_limits<double>::quiet_NaN();
  }
  const auto before = copy_parameters(*problem.source);
  const auto* storage = problem.source->parameters()[0].const_data_ptr();
  {
    const ParameterSwap swap(*problem.source, other_values(*problem.source));
    EXPECT_FALSE(same_bits(before, copy_parameters(*problem.source)));
  }
  EXPECT_TRUE(same_bits(before, copy_parameters(*problem.source)));
  EXPECT_EQ(problem.source->parameters()[0].const_data_ptr(), storage);
  EXPECT_TRUE(problem.source->parameters()[0].requires_grad());
}

TEST(ParameterSwap, PutsThemBackAfterAnException) {
  auto problem = make_problem("logistic");
  const auto before = copy_parameters(*problem.source);
  EXPECT_THROW(
      {
        const ParameterSwap swap(*problem.source, other_values(*problem.source));
        throw std::runtime_error("in the middle of a measurement");
      },
      std::runtime_error);
  EXPECT_TRUE(same_bits(before, problem.source->parameters()));
}

TEST(ParameterSwap, LeavesTheOtherValuesAlone) {
  auto problem = make_problem("logistic");
  const auto values = other_values(*problem.source), copies = other_values(*problem.source);
  {
    const ParameterSwap swap(*problem.source, values);
    problem.source->gradients(at::arange(3, at::kLong));
  }
  problem.source->move(1.0, 1);
  EXPECT_TRUE(same_bits(values, copies));
}

}  // namespace
}  // namespace gradist
