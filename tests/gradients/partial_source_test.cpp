#include "gradients/partial_source.h"

#include "support/factors.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<std::string> kNames = {"conv.weight", "conv.bias", "norm1.weight",
                                         "norm1.bias",  "fc.weight", "fc.bias"};

TEST(ChosenParameters, FollowThePatterns) {
  const auto chosen = [](const std::vector<std::string>& patterns) {
    return chosen_parameters(kNames, patterns);
  };
  EXPECT_THAT(chosen({}), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(chosen({"fc.weight"}), ElementsAre(4));
  EXPECT_THAT(chosen({"fc.weight", "conv.*"}), ElementsAre(0, 1, 4));
  EXPECT_THAT(chosen({"!*.bias"}), ElementsAre(0, 2, 4));
  EXPECT_THAT(chosen({"!*.bias", "!norm*"}), ElementsAre(0, 4));
  EXPECT_THAT(chosen({"!*.bias", "conv.*", "norm?.*"}), ElementsAre(0, 2));
}

TEST(ChosenParameters, RefusePatternsThatMatchNothingAndAChoiceOfNothing) {
  const auto refused = [](const std::vector<std::string>& patterns) {
    return test::refusal([&] { chosen_parameters(kNames, patterns); });
  };
  EXPECT_THAT(
      refused({"fc.*", "fc2.*"}),
      AllOf(test::is_one_line(), HasSubstr("gc-parameters = fc2.*"), HasSubstr("conv.weight")));
  EXPECT_THAT(refused({"!fc2.*"}), AllOf(test::is_one_line(), HasSubstr("gc-parameters = !fc2.*")));
  EXPECT_THAT(refused({"fc.*", "!*"}),
              AllOf(test::is_one_line(), HasSubstr("fc.*,!*"), HasSubstr("at least one")));
}

TEST(PartialSource, ShowsTheGradientsOfSomeParameters) {
  auto whole = test::source_of_kinds(at::arange(4, at::kLong), 4, 0.1, 3, 2);
  PartialSource part(whole, {"*[02]"});
  EXPECT_EQ(part.examples(), 4);
  EXPECT_THAT(part.parameter_names(), ElementsAre("factors0", "factors2"));
  ASSERT_EQ(part.parameters().size(), 2);
  EXPECT_TRUE(part.parameters()[1].is_same(whole.parameters()[2]));
  const auto indices = at::tensor({3, 1}, at::kLong);
  const auto all = whole.gradients(indices), some = part.gradients(indices);
  ASSERT_EQ(some.parameters.size(), 2);
  EXPECT_TRUE(test::same_bits(some.parameters[0].dense(), all.parameters[0].dense()));
  EXPECT_TRUE(test::same_bits(some.parameters[1].dense(), all.parameters[2].dense()));
  EXPECT_TRUE(test::same_bits(some.losses, all.losses));
  const auto weights = at::tensor({0.5, 2.0}, at::kDouble);
  const auto sums = part.weighted_gradient(indices, weights);
  ASSERT_EQ(sums.size(), 2);
  EXPECT_TRUE(test::same_bits(sums[1], whole.weighted_gradient(indices, weights)[2]));
}

}  // namespace
}  // namespace gradist
