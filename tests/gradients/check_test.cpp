#include "gradients/check.h"

#include "support/problems.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>

#include <limits>

namespace gradist {
namespace {

using ::testing::Le;
using ::testing::Not;

/// A source whose per-example gradients of one parameter are off by a factor.
class WrongSource final : public test::VectorSource {
 public:
  WrongSource(const at::Tensor& rows, double factor) : VectorSource(rows), factor_(factor) {}

  GradientBatch gradients(const at::Tensor& indices) override {
    auto batch = VectorSource::gradients(indices);
    const auto& right = batch.parameters[1];
    batch.parameters[1] =
        FactoredGradients::from_dense(right.dense() * factor_, right.shape(), "wrong");
    return batch;
  }

 private:
  double factor_;
};

class CheckOnProblems : public ::testing::TestWithParam<std::string> {};

TEST_P(CheckOnProblems, FindsNothingWrong) {
  for (const auto type : {at::kDouble, at::kFloat}) {
    const auto problem = test::make_problem(GetParam(), type);
    const auto check = check_gradients(*problem.source, at::arange(4, at::kLong));
    EXPECT_EQ(check.examples, 4);
    EXPECT_EQ(check.tolerance, type == at::kDouble ? 1e-10 : 1e-5);
    EXPECT_TRUE(check.ok()) << check.largest();
    ASSERT_EQ(check.parameters.size(), problem.methods.size());
    for (size_t l = 0; l < check.parameters.size(); ++l) {
      EXPECT_EQ(check.parameters[l].name, problem.source->parameter_names()[l]);
      EXPECT_EQ(check.parameters[l].method, problem.methods[l]);
      EXPECT_EQ(check.parameters[l].shape, problem.source->parameters()[l].sizes().vec());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Problems, CheckOnProblems, ::testing::ValuesIn(test::problem_names()));

TEST(Check, NamesTheParameterThatIsWrong) {
  const auto rows = test::normal({5, 4}, 1);
  for (const double factor : {1 + 1e-8, -1.0, std::numeric_limits<double>::quiet_NaN()}) {
    WrongSource source(rows, factor);
    const auto check = check_gradients(source, at::arange(5, at::kLong));
    EXPECT_FALSE(check.ok());
    EXPECT_THAT(check.parameters[0].error, Le(check.tolerance));
    EXPECT_THAT(check.parameters[1].error, Not(Le(check.tolerance)));
  }
}

}  // namespace
}  // namespace gradist
