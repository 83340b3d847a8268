#include "data/dataset.h"

#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using test::refusal;
using test::same_bits;

TEST(LoadData, StandardizesTheDigitsByDefault) {
  DataSplit split = load_data({});
  EXPECT_TRUE(test::tensor_near(split.train.inputs.to(at::kDouble).mean(), at::zeros({}), 1e-6, 1));
  EXPECT_TRUE(test::tensor_near(split.train.inputs.to(at::kDouble).std(/*unbiased=*/false),
                                at::ones({}), 1e-6));
  DataSplit plain = load_data({.standardize = false});
  EXPECT_EQ(plain.train.inputs.max().item<float>(), 1);
}

TEST(LoadData, IsTheSameForTheSameSeedOnly) {
  DataOptions options{
      .label_corruption = 0.1, .duplicate_points = 5, .duplicate_fraction = 0.2, .seed = 3};
  Dataset first = load_data(options).train;
  Dataset again = load_data(options).train;
  EXPECT_TRUE(same_bits(first.inputs, again.inputs));
  EXPECT_TRUE(same_bits(first.targets, again.targets));
  options.seed = 4;
  Dataset other = load_data(options).train;
  EXPECT_FALSE(same_bits(first.inputs, other.inputs));
}

TEST(LoadData, ChangesTheTrainingSetOnly) {
  DataSplit plain = load_data({});
  DataSplit changed =
      load_data({.label_corruption = 0.5, .duplicate_points = 5, .duplicate_fraction = 0.5});
  EXPECT_TRUE(same_bits(plain.test.inputs, changed.test.inputs));
  EXPECT_TRUE(same_bits(plain.test.targets, changed.test.targets));
}

TEST(LoadData, DuplicatesAreTheSameWithAndWithoutCorruption) {
  Dataset clean = load_data({.duplicate_points = 5, .duplicate_fraction = 0.5}).train;
  Dataset corrupted =
      load_data({.label_corruption = 0.5, .duplicate_points = 5, .duplicate_fraction = 0.5}).train;
  EXPECT_TRUE(same_bits(clean.inputs, corrupted.inputs));
}

TEST(LoadData, RefusesUnknownDataAndBadOptions) {
  EXPECT_EQ(refusal([] { load_data({.data = "cifar"}); }),
            "data = cifar, must be one of digits, mnist, fashion-mnist, cifar10, cifar100, "
            "image-folder, csv, year-prediction-msd, libsvm, hdf5");
  EXPECT_EQ(refusal([] { validate({.label_corruption = 2}); }),
            "label-corruption = 2, must lie in [0, 1]");
  EXPECT_THAT(refusal([] { validate({.duplicate_points = 3}); }),
              testing::HasSubstr("duplicates = 3,0, "));
  EXPECT_THAT(refusal([] { load_data({.data = "mnist"}); }),
              testing::HasSubstr("data-dir = \"\", must name"));
}

TEST(Dataset, MovesInputsAndLeavesClassesWhole) {
  Dataset classes{
      .inputs = at::ones({2, 3}), .targets = at::tensor({0, 1}, at::kLong), .classes = 2};
  Dataset moved = classes.to(at::kCPU, at::kDouble);
  EXPECT_EQ(moved.inputs.scalar_type(), at::kDouble);
  EXPECT_EQ(moved.targets.scalar_type(), at::kLong);
  Dataset numbers{.inputs = at::ones({2, 3}), .targets = at::ones({2})};
  EXPECT_EQ(numbers.to(at::kCPU, at::kDouble).targets.scalar_type(), at::kDouble);
  EXPECT_EQ(numbers.outputs(), 1);
}

}  // namespace
}  // namespace gradist
