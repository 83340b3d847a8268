#include "data/mnist.h"

#include "data/files.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using test::is_one_line;
using test::refusal;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kSharedData = GRADIST_SHARED_DATA;

/// Two training images and one test image of 1 x 2 pixels.
class MnistTest : public ::testing::Test {
 protected:
  void SetUp() override {
    write("train-images-idx3-ubyte", test::idx_images({0, 51, 102, 255}, 1, 2));
    write("train-labels-idx1-ubyte", test::idx_labels({9, 0}));
    write("t10k-images-idx3-ubyte", test::idx_images({153, 204}, 1, 2));
    write("t10k-labels-idx1-ubyte", test::idx_labels({4}));
  }

  void write(const std::string& name, const std::string& bytes) {
    test::write_file(folder_ / name, bytes);
  }

  /// Replaces a file by the same under another name.
  void rename(const std::string& from, const std::string& to) {
    std::filesystem::rename(folder_ / from, folder_ / to);
  }

  std::string load_refusal() {
    return refusal([&] { load_mnist("mnist", folder_.string()); });
  }

  test::TemporaryFolder folder_;
};

void expect_tiny(const DataSplit& split) {
  EXPECT_TRUE(test::tensor_near(split.train.inputs,
                                at::tensor({0.0, 0.2, 0.4, 1.0}).view({2, 1, 1, 2}), 1e-7));
  EXPECT_TRUE(
      test::tensor_near(split.test.inputs, at::tensor({0.6, 0.8}).view({1, 1, 1, 2}), 1e-7));
  EXPECT_TRUE(at::equal(split.train.targets, at::tensor({9, 0}, at::kLong)));
  EXPECT_TRUE(at::equal(split.test.targets, at::tensor({4}, at::kLong)));
  EXPECT_EQ(split.train.inputs.scalar_type(), at::kFloat);
}

TEST_F(MnistTest, ReadsTheFourFiles) {
  DataSplit split = load_mnist("fashion-mnist", folder_.string());
  expect_tiny(split);
  EXPECT_EQ(split.train.name, "fashion-mnist");
  EXPECT_EQ(split.test.classes, 10);
  EXPECT_EQ(split.train.features(), 2);
  EXPECT_EQ(split.train.outputs(), 10);
}

TEST_F(MnistTest, ReadsEverySpelling) {
  rename("train-images-idx3-ubyte", "train-images.idx3-ubyte");
  test::write_gzip(folder_ / "train-labels-idx1-ubyte.gz",
                   test::read_file(folder_ / "train-labels-idx1-ubyte"));
  std::filesystem::remove(folder_ / "train-labels-idx1-ubyte");
  test::write_gzip(folder_ / "t10k-labels.idx1-ubyte.gz",
                   test::read_file(folder_ / "t10k-labels-idx1-ubyte"));
  std::filesystem::remove(folder_ / "t10k-labels-idx1-ubyte");
  expect_tiny(load_mnist("mnist", folder_.string()));
}

TEST_F(MnistTest, RefusesALabelOutOfRange) {
  write("train-labels-idx1-ubyte", test::idx_labels({9, 10}));
  EXPECT_EQ(load_refusal(), (folder_ / "train-labels-idx1-ubyte").string() +
                                ": label 10 at position 1 (from 0), must be 0..9");
}

TEST_F(MnistTest, RefusesLabelsThatDoNotMatchTheImages) {
  write("t10k-labels-idx1-ubyte", test::idx_labels({1, 2, 3}));
  EXPECT_EQ(load_refusal(), (folder_ / "t10k-labels-idx1-ubyte").string() +
                                ": 3 labels, must be as many as the 1 images of " +
                                (folder_ / "t10k-images-idx3-ubyte").string());
}

TEST_F(MnistTest, RefusesTestImagesOfAnotherSize) {
  write("t10k-images-idx3-ubyte", test::idx_images({1, 2, 3}, 1, 3));
  EXPECT_THAT(load_refusal(), AllOf(StartsWith((folder_ / "t10k-images-idx3-ubyte").string()),
                                    HasSubstr("images of 1 x 3 pixels"), HasSubstr("must be 1 x 2"),
                                    is_one_line()));
}

TEST_F(MnistTest, PassesOnWhatIsWrongWithAFile) {
  write("train-images-idx3-ubyte", "");
  EXPECT_EQ(load_refusal(), (folder_ / "train-images-idx3-ubyte").string() +
                                ": empty file, must begin with a magic number");
}

TEST_F(MnistTest, NamesAMissingFileAndTheFour) {
  std::filesystem::remove(folder_ / "t10k-images-idx3-ubyte");
  EXPECT_THAT(
      load_refusal(),
      AllOf(StartsWith("data-dir = " + folder_.string() + ", has no t10k-images-idx3-ubyte"),
            HasSubstr("must hold train-images-idx3-ubyte, train-labels-idx1-ubyte, "
                      "t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte"),
            is_one_line()));
}

TEST(Mnist, SaysWhatFolderItNeeds) {
  EXPECT_THAT(refusal([] { load_mnist("mnist", ""); }),
              AllOf(StartsWith("data-dir = \"\", must name the folder"), HasSubstr("mnist"),
                    HasSubstr("t10k-labels-idx1-ubyte"), is_one_line()));
  EXPECT_THAT(refusal([] { load_mnist("mnist", "no/such/folder"); }),
              AllOf(StartsWith("data-dir = no/such/folder, no such folder"), is_one_line()));
}

/// The published numbers of a data set's training pixels, scaled to [0, 1].
struct Published {
  std::string name;
  double mean;
  double deviation;
};

class PublishedData : public ::testing::TestWithParam<Published> {};

TEST_P(PublishedData, HasItsPixelsAndClasses) {
  const std::string folder = kSharedData + "/" + GetParam().name;
  if (!std::filesystem::is_directory(folder))
    GTEST_SKIP() << "<repo>/../shared/data/" << GetParam().name << " is missing";
  DataSplit split = load_mnist(GetParam().name, folder);
  EXPECT_EQ(split.train.inputs.sizes(), (std::vector<int64_t>{60000, 1, 28, 28}));
  EXPECT_EQ(split.test.inputs.sizes(), (std::vector<int64_t>{10000, 1, 28, 28}));
  auto [deviation, mean] = at::std_mean(split.train.inputs, /*unbiased=*/false);
  EXPECT_NEAR(mean.item<double>(), GetParam().mean, 5e-5);
  EXPECT_NEAR(deviation.item<double>(), GetParam().deviation, 5e-5);
  EXPECT_EQ(at::bincount(split.train.targets).size(0), 10);
}

INSTANTIATE_TEST_SUITE_P(Shared, PublishedData,
                         ::testing::Values(Published{"mnist", 0.1307, 0.3081},
                                           Published{"fashion-mnist", 0.2860, 0.3530}),
                         [](const auto& given) {
                           return given.param.name == "mnist" ? "Mnist" : "FashionMnist";
                         });

}  // namespace
}  // namespace gradist
