#include "data/data_info.h"

#include "data/files.h"

#include <gmock/gmock.h>

namespace gradist {
namespace {

using ::testing::HasSubstr;

class DataInfoTest : public ::testing::Test {
 protected:
  std::string described(const std::string& name, const std::string& bytes) {
    test::write_file(folder_ / name, bytes);
    return describe_data_file(folder_ / name);
  }

  test::TemporaryFolder folder_;
};

TEST_F(DataInfoTest, KnowsEveryFormatByItsContent) {
  EXPECT_EQ(described("a", test::idx_images({1, 2, 3, 4}, 1, 2)), "IDX, 2 images of 1 x 2");
  EXPECT_EQ(described("b", test::idx_labels({3, 1, 3})),
            "IDX, 3 labels; 2 different labels, 1 to 2 examples each");
  EXPECT_EQ(described("c.bin", test::cifar_record({3}, 0)),
            "CIFAR-10, 1 images of 3 x 32 x 32; 1 different labels, 1 to 1 examples each");
  EXPECT_EQ(described("d.bin", test::cifar_record({3, 99}, 0)),
            "CIFAR-100, 1 images of 3 x 32 x 32; 1 different labels, 1 to 1 examples each");
  EXPECT_EQ(described("e", "x,y\n1,2\n3,4\n"), "CSV, 2 rows of 2 numbers");
  EXPECT_EQ(described("f", "+1 3:1 5:2\n-1\n"),
            "LIBSVM, 2 examples, 5 features, 2 values; 2 different labels, 1 to 1 examples "
            "each");
  EXPECT_EQ(described("g", "+1\n-1 1:1\n").substr(0, 6), "LIBSVM");
}

TEST_F(DataInfoTest, ReadsEveryFileToItsEnd) {
  EXPECT_THROW(described("a", test::idx_labels({3, 1, 3}).substr(0, 10)), DataError);
  test::write_file(folder_ / "b.bin", test::cifar_record({3}, 0) + "xy");
  test::write_file(folder_ / "c", "1,2\n");
  const auto lines = describe_data(folder_.string());
  ASSERT_EQ(lines.size(), 3);
  EXPECT_FALSE(lines[0].good);
  EXPECT_THAT(lines[0].text, HasSubstr("truncated, holds 2 values, must hold 3"));
  EXPECT_FALSE(lines[1].good);
  EXPECT_THAT(lines[1].text, HasSubstr("record 1 (from 0) ends after 2 bytes"));
  EXPECT_THAT(lines[1].text, HasSubstr("nor is it CIFAR-100"));
  EXPECT_TRUE(lines[2].good);
  EXPECT_EQ(describe_data(folder_ / "c").front().text, "CSV, 1 rows of 2 numbers");
}

TEST_F(DataInfoTest, PassesOverTheTextsOfCifarsArchive) {
  test::write_file(folder_ / "batches.meta.txt", "airplane\nautomobile\n");
  test::write_file(folder_ / "data_batch_1.bin", test::cifar_record({3}, 0));
  test::write_file(folder_ / "readme.html", "<html>CIFAR</html>\n");
  const auto lines = describe_data(folder_.string());
  ASSERT_EQ(lines.size(), 3);
  for (const auto& line : lines) EXPECT_TRUE(line.good) << line.text;
  EXPECT_EQ(lines[0].text, "text beside CIFAR's *.bin files, passed over");
  EXPECT_THAT(lines[1].text, HasSubstr("CIFAR-10, 1 images"));
  EXPECT_EQ(lines[2].text, lines[0].text);
  EXPECT_FALSE(describe_data(folder_ / "readme.html").front().good) << "asked for by itself";

  test::write_file(folder_ / "test_batch.bin", "cut");
  EXPECT_FALSE(describe_data(folder_.string()).back().good);
  std::filesystem::remove(folder_ / "data_batch_1.bin");
  std::filesystem::remove(folder_ / "test_batch.bin");
  EXPECT_FALSE(describe_data(folder_.string()).front().good) << "no data here";
}

TEST_F(DataInfoTest, CountsWithSeparators) {
  std::string text;
  for (int i = 0; i < 1234; ++i) text += "1,2\n";
  EXPECT_EQ(described("a", text), "CSV, 1,234 rows of 2 numbers");
}

}  // namespace
}  // namespace gradist
