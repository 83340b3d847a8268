#include "data/stored_images.h"

#include "data/files.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

namespace gradist {
namespace {

using test::refusal;
using test::same_bits;
using ::testing::HasSubstr;

at::Tensor some_bytes(const std::vector<int64_t>& sizes) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{1});
  return at::randint(0, 256, sizes, generator, at::kLong).to(at::kByte);
}

TEST(StoredImages, AreStandardizedByMeanAndDeviationOfEachChannel) {
  // More images than are counted at once.
  const at::Tensor bytes = some_bytes({1500, 3, 3, 5});
  bytes.select(1, 2).fill_(7);  // a constant channel has deviation 1
  const auto images = images_in_memory(bytes);
  const at::Tensor x = bytes.to(at::kDouble) / 255;
  const at::Tensor mean = x.mean({0, 2, 3}, true);
  at::Tensor deviation = (x - mean).square().mean({0, 2, 3}, true).sqrt();
  deviation = at::where(deviation < 1e-9, at::ones_like(deviation), deviation);
  const at::Tensor read = images->read_range(0, 1500, images->scale(/*by_feature=*/false));
  EXPECT_TRUE(test::tensor_near(read.to(at::kDouble), (x - mean) / deviation, 1e-6, 1));
  EXPECT_TRUE(same_bits(images->read_range(0, 1500, {}), bytes.to(at::kFloat).div(255)));
}

class ImagesInFilesTest : public ::testing::Test {
 protected:
  /// Records of one byte and four pixels behind a header of two bytes.
  RecordFile write(const std::string& name, int first, int64_t records) {
    std::string bytes = "hh";
    for (int i = 0; i < 5 * records; ++i) bytes += static_cast<char>(first + i);
    test::write_file(folder_ / name, bytes);
    return {folder_ / name, 2, 1, records};
  }

  test::TemporaryFolder folder_;
};

TEST_F(ImagesInFilesTest, AreReadFromWhereTheyStand) {
  const auto images = images_in_files({write("a", 0, 2), write("b", 50, 3)}, {1, 2, 2});
  EXPECT_EQ(images->sizes(), (std::vector<int64_t>{5, 1, 2, 2}));
  const at::Tensor read = images->bytes(at::tensor({4, 0, 1, 2}, at::kLong)).flatten(1);
  const at::Tensor expected =
      at::tensor({61, 62, 63, 64, 1, 2, 3, 4, 6, 7, 8, 9, 51, 52, 53, 54}, at::kByte).view({4, 4});
  EXPECT_TRUE(at::equal(read, expected));
  EXPECT_TRUE(at::equal(images->bytes_range(1, 1).flatten(1), expected.narrow(0, 2, 1)));
}

TEST_F(ImagesInFilesTest, MustBePlainWholeAndStayThere) {
  RecordFile file = write("a", 0, 2);
  const auto images = images_in_files({file}, {1, 2, 2});
  file.records = 3;
  EXPECT_EQ(refusal([&] {
              images_in_files({file}, {1, 2, 2});
            }),
            file.file.string() + ": 12 bytes, must have 17: 3 records of 5");
  test::write_file(file.file, "hh123");
  EXPECT_THAT(refusal([&] { images->bytes(at::tensor({1}, at::kLong)); }),
              HasSubstr("a: has changed, must not while it is read"));
  test::write_gzip(file.file, "anything");
  EXPECT_EQ(refusal([&] {
              images_in_files({file}, {1, 2, 2});
            }),
            file.file.string() + ": compressed, must be plain where stream = yes");
}

}  // namespace
}  // namespace gradist
