#include "data/transforms.h"

#include "support/problems.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

#include <cmath>

namespace gradist {
namespace {

using test::refusal;
using test::tensor_near;
using ::testing::HasSubstr;

/// Inputs 0, 1, 2, ... and targets i mod classes, so that every example tells where it came from.
Dataset counted(int64_t size, int64_t classes) {
  return {.inputs = at::arange(size, at::kFloat).unsqueeze(1),
          .targets = at::arange(size, at::kLong).remainder(classes),
          .classes = classes,
          .name = "counted"};
}

at::Generator generator() { return test::generator_of(7); }

TEST(Standardize, UsesTheTrainingSetsNumbersForBothSets) {
  DataSplit split{.train = {.inputs = at::tensor({1.0F, 3.0F, 5.0F, 7.0F}).view({2, 2})},
                  .test = {.inputs = at::tensor({4.0F, 9.0F}).view({1, 2})}};
  standardize(split);  // mean 4, variance (9 + 1 + 1 + 9) / 4 = 5
  EXPECT_TRUE(tensor_near(split.train.inputs * std::sqrt(5.0),
                          at::tensor({-3, -1, 1, 3}).view({2, 2}), 1e-6));
  EXPECT_TRUE(
      tensor_near(split.test.inputs * std::sqrt(5.0), at::tensor({0, 5}).view({1, 2}), 1e-6));
}

TEST(Standardize, TreatsEachChannelOfImagesByItself) {
  at::Tensor images =
      at::tensor({0.0F, 2.0F, 10.0F, 30.0F, 4.0F, 6.0F, 50.0F, 70.0F}).view({2, 2, 1, 2});
  DataSplit split{.train = {.inputs = images.clone()}, .test = {.inputs = images.clone()}};
  standardize(split);
  for (const at::Tensor& channel : split.train.inputs.unbind(1)) {
    EXPECT_TRUE(tensor_near(channel.mean(), at::zeros({}), 1e-6, 1));
    EXPECT_TRUE(tensor_near(channel.var(/*unbiased=*/false), at::ones({}), 1e-6));
  }
  EXPECT_TRUE(test::same_bits(split.train.inputs, split.test.inputs));
}

TEST(Standardize, LeavesConstantInputsAtZero) {
  DataSplit split{.train = {.inputs = at::full({3, 2}, 5.0F)},
                  .test = {.inputs = at::full({1, 2}, 6.0F)}};
  standardize(split);
  EXPECT_TRUE(tensor_near(split.train.inputs, at::zeros({3, 2}), 0));
  EXPECT_TRUE(tensor_near(split.test.inputs, at::ones({1, 2}), 0));
}

class LabelCorruption : public ::testing::TestWithParam<double> {};

TEST_P(LabelCorruption, ChangesExactlyItsFractionToOtherClasses) {
  Dataset data = counted(1003, 10);
  const Dataset before = counted(1003, 10);
  auto random = generator();
  corrupt_labels(data, GetParam(), random);
  EXPECT_EQ(data.targets.ne(before.targets).sum().item<int64_t>(), std::llround(GetParam() * 1003));
  EXPECT_GE(data.targets.min().item<int64_t>(), 0);
  EXPECT_LT(data.targets.max().item<int64_t>(), 10);
  EXPECT_TRUE(test::same_bits(data.inputs, before.inputs));
}

INSTANTIATE_TEST_SUITE_P(Fractions, LabelCorruption, ::testing::Values(0.0, 0.0004, 0.1, 0.5, 1.0));

TEST(LabelCorruptionShifts, AreUniformOverTheOtherClasses) {
  Dataset data = counted(90000, 10);
  auto random = generator();
  corrupt_labels(data, 1, random);
  at::Tensor shifts = (data.targets - counted(90000, 10).targets).remainder(10);
  at::Tensor counts = at::bincount(shifts, {}, 10).to(at::kDouble);
  EXPECT_EQ(counts[0].item<double>(), 0);
  // Each of the nine is binomial(90000, 1/9), mean 10000 and deviation 94: five deviations.
  EXPECT_LT((counts.slice(0, 1) - 10000).abs().max().item<double>(), 5 * 94.3);
}

TEST(LabelCorruptionShifts, FlipTwoClasses) {
  Dataset data = counted(10, 2);
  auto random = generator();
  corrupt_labels(data, 1, random);
  EXPECT_TRUE(at::equal(data.targets, 1 - counted(10, 2).targets));
}

TEST(LabelCorruptionInput, IsChecked) {
  for (double fraction : {-0.1, 1.1, std::nan("")}) {
    EXPECT_THAT(refusal([&] { validate_label_corruption(fraction); }),
                AllOf(HasSubstr("label-corruption = "), HasSubstr("must lie in [0, 1]"),
                      test::is_one_line()));
  }
  auto random = generator();
  Dataset numbers{.inputs = at::zeros({4, 1}), .targets = at::zeros({4})};
  EXPECT_THAT(
      refusal([&] { corrupt_labels(numbers, 0.5, random); }),
      AllOf(HasSubstr("label-corruption = 0.5"), HasSubstr("must be 0 for data of 0 classes")));
}

TEST(Examples, AreTakenAtRandomInTheirOrder) {
  auto random = generator();
  Dataset data = counted(1000, 10);
  take_examples(data, 0, random);
  EXPECT_EQ(data.size(), 1000);
  take_examples(data, 300, random);
  const at::Tensor taken = data.inputs.flatten();
  EXPECT_EQ(data.size(), 300);
  EXPECT_TRUE(taken.diff().gt(0).all().item<bool>()) << "none twice, in the order they had";
  EXPECT_TRUE(at::equal(data.targets, taken.to(at::kLong).remainder(10)))
      << "labels go with inputs";
  // The mean of 300 of 1,000 numbers 0..999 without replacement: 499.5 with deviation 14; five of
  // them.
  EXPECT_NEAR(taken.mean().item<double>(), 499.5, 70);
  EXPECT_EQ(refusal([&] { take_examples(data, 301, random); }),
            "train-examples = 301, must be <= 300, the number of training examples");
  EXPECT_EQ(refusal([&] { take_examples(data, -1, random); }), "train-examples = -1, must be >= 0");
}

struct Duplication {
  int64_t points;
  double fraction;
};

class Duplicates : public ::testing::TestWithParam<Duplication> {};

TEST_P(Duplicates, PointsMakeUpTheirFractionEqually) {
  constexpr int64_t kSize = 1003;
  const auto [points, fraction] = GetParam();
  Dataset data = counted(kSize, 10);
  auto random = generator();
  duplicate_points(data, points, fraction, random);
  const int64_t places = std::llround(fraction * kSize);
  at::Tensor copies = at::bincount(data.inputs.flatten().to(at::kLong), {}, kSize);
  EXPECT_EQ(data.size(), kSize);
  EXPECT_EQ(copies.gt(0).sum().item<int64_t>(), kSize - places + points);
  // Each point is there floor or ceil(places / points) times, all others once.
  at::Tensor most = std::get<0>(copies.sort(/*dim=*/0, /*descending=*/true)).slice(0, 0, points);
  EXPECT_EQ(most.sum().item<int64_t>(), places);
  EXPECT_LE((most.max() - most.min()).item<int64_t>(), 1);
  EXPECT_TRUE(at::equal(data.targets, data.inputs.flatten().to(at::kLong).remainder(10)))
      << "labels go with inputs";
  const int64_t moved =
      data.inputs.flatten().ne(counted(kSize, 10).inputs.flatten()).sum().item<int64_t>();
  EXPECT_EQ(moved, places - points) << "originals and all others stay in place";
}

INSTANTIATE_TEST_SUITE_P(Sets, Duplicates,
                         ::testing::Values(Duplication{5, 0.1}, Duplication{5, 0.5},
                                           Duplication{5, 0.9}, Duplication{1, 1.0},
                                           Duplication{100, 0.1}, Duplication{1003, 1.0}));

TEST(DuplicatesInput, IsChecked) {
  auto random = generator();
  auto refused = [&](int64_t points, double fraction) {
    Dataset data = counted(100, 10);
    return refusal([&] { duplicate_points(data, points, fraction, random); });
  };
  EXPECT_EQ(refused(0, 0), "");
  EXPECT_EQ(refused(5, 1.5), "duplicates = 5,1.5, the fraction must lie in [0, 1]");
  EXPECT_THAT(refused(5, std::nan("")), HasSubstr("the fraction must lie in [0, 1]"));
  EXPECT_EQ(refused(-1, 0.5), "duplicates = -1,0.5, the number of points must be >= 0");
  EXPECT_THAT(refused(0, 0.5), HasSubstr("points and fraction must both be > 0, or both be 0"));
  EXPECT_THAT(refused(5, 0), HasSubstr("points and fraction must both be > 0, or both be 0"));
  EXPECT_EQ(refused(11, 0.1),
            "duplicates = 11,0.1, the points must be no more than the 10 of 100 examples that they "
            "are to make up");
}

}  // namespace
}  // namespace gradist
