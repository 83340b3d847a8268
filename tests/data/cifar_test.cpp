#include "data/cifar.h"

#include "data/files.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using test::cifar_record;
using test::is_one_line;
using test::refusal;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const std::string kSharedData = GRADIST_SHARED_DATA;

/// Two training files with three records, one of them compressed, and a test file with one.
class CifarTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_file(folder_ / "data_batch_1.bin", cifar_record({3}, 0) + cifar_record({4}, 1));
    test::write_gzip(folder_ / "data_batch_2.bin.gz", cifar_record({9}, 2));
    test::write_file(folder_ / "test_batch.bin", cifar_record({7}, 5));
    test::write_file(folder_ / "batches.meta.txt", "airplane\n");
  }

  std::string load_refusal(const std::string& name = "cifar10") {
    return refusal([&] { load_cifar(name, folder_.string()); });
  }

  test::TemporaryFolder folder_;
};

TEST_F(CifarTest, ReadsAllBatchFilesInOrder) {
  const DataSplit split = load_cifar("cifar10", folder_.string());
  EXPECT_EQ(split.train.inputs.sizes(), (std::vector<int64_t>{3, 3, 32, 32}));
  EXPECT_EQ(split.test.inputs.sizes(), (std::vector<int64_t>{1, 3, 32, 32}));
  EXPECT_TRUE(at::equal(split.train.targets, at::tensor({3, 4, 9}, at::kLong)));
  EXPECT_TRUE(at::equal(split.test.targets, at::tensor({7}, at::kLong)));
  EXPECT_EQ(split.train.classes, 10);
  EXPECT_EQ(split.train.name, "cifar10");
  // Red first, row by row, scaled to [0, 1].
  const at::Tensor expected = at::arange(2, 2 + 3072).remainder(256).to(at::kFloat).div(255);
  EXPECT_TRUE(test::tensor_near(split.train.inputs[2].flatten(), expected, 1e-7));
}

TEST_F(CifarTest, ReadsAFileOnceThatIsThereTwice) {
  test::write_gzip(folder_ / "data_batch_1.bin.gz", "not looked at");
  EXPECT_EQ(load_cifar("cifar10", folder_.string()).train.size(), 3);
}

TEST(Cifar100Test, ReadsFineLabels) {
  test::TemporaryFolder folder;
  test::write_file(folder / "train.bin", cifar_record({19, 99}, 0));
  test::write_file(folder / "test.bin", cifar_record({0, 1}, 0));
  const DataSplit split = load_cifar("cifar100", folder.string());
  EXPECT_EQ(split.train.classes, 100);
  EXPECT_EQ(split.train.targets.item<int64_t>(), 99);
  EXPECT_EQ(split.test.targets.item<int64_t>(), 1);
}

TEST_F(CifarTest, PassesOnWhatIsWrongWithAFile) {
  test::write_file(folder_ / "data_batch_3.bin", cifar_record({3}, 0) + "x");
  EXPECT_EQ(load_refusal(), (folder_ / "data_batch_3.bin").string() +
                                ": record 1 (from 0) ends after 1 bytes, must have 3073 bytes (1 "
                                "label, 3072 pixels)");
  EXPECT_THAT(load_refusal("cifar100"), HasSubstr("data_batch_1.bin: "));
  std::filesystem::remove(folder_ / "data_batch_3.bin");
  const std::string packed = test::read_file(folder_ / "data_batch_2.bin.gz");
  test::write_file(folder_ / "data_batch_2.bin.gz", packed.substr(0, packed.size() / 2));
  EXPECT_THAT(load_refusal(), AllOf(HasSubstr("data_batch_2.bin.gz: damaged"), is_one_line()));
  std::filesystem::remove(folder_ / "data_batch_2.bin.gz");
  std::filesystem::create_directory(folder_ / "data_batch_2.bin");
  EXPECT_EQ(load_refusal(), (folder_ / "data_batch_2.bin").string() + ": not a file, must be one");
}

TEST_F(CifarTest, SaysWhichFilesItNeeds) {
  std::filesystem::remove(folder_ / "test_batch.bin");
  EXPECT_THAT(load_refusal(),
              AllOf(StartsWith("data-dir = " + folder_.string() + ", has no test file, must hold"),
                    HasSubstr("*.bin, plain or .gz"), is_one_line()));
  for (const char* name : {"data_batch_1.bin", "data_batch_2.bin.gz"}) {
    std::filesystem::remove(folder_ / name);
  }
  EXPECT_THAT(load_refusal(), HasSubstr("has no training file"));
  EXPECT_THAT(refusal([] { load_cifar("cifar10", ""); }),
              AllOf(StartsWith("data-dir = \"\", must name the folder"), is_one_line()));
  EXPECT_THAT(refusal([] { load_cifar("cifar10", "no/such/folder"); }),
              AllOf(StartsWith("data-dir = no/such/folder, no such folder"), is_one_line()));
}

TEST(PublishedCifar10, HasItsClasses) {
  const std::string folder = kSharedData + "/cifar10";
  if (!std::filesystem::is_directory(folder)) {
    GTEST_SKIP() << "<repo>/../shared/data/cifar10 is missing";
  }
  const DataSplit split = load_cifar("cifar10", folder);
  EXPECT_EQ(split.train.inputs.sizes(), (std::vector<int64_t>{10000, 3, 32, 32}));
  // The classes of the first official training batch.
  EXPECT_TRUE(
      at::equal(at::bincount(split.train.targets),
                at::tensor({1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981}, at::kLong)));
  EXPECT_EQ(split.test.size() % 1000, 0);
}

TEST(PublishedCifar100, HasItsFirstLabels) {
  const std::string file = kSharedData + "/cifar100/sample100.bin";
  if (!std::filesystem::exists(file)) {
    GTEST_SKIP() << "<repo>/../shared/data/cifar100 is missing";
  }
  test::TemporaryFolder folder;
  for (const char* name : {"train.bin", "test.bin"}) std::filesystem::copy(file, folder / name);
  const DataSplit split = load_cifar("cifar100", folder.string());
  EXPECT_EQ(split.test.size(), 100);
  EXPECT_TRUE(at::equal(split.test.targets.slice(0, 0, 10),
                        at::tensor({49, 33, 72, 51, 71, 92, 15, 14, 23, 0}, at::kLong)));
}

}  // namespace
}  // namespace gradist
