#include "data/digits.h"

#include "data/files.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using test::refusal;

/// A line of 64 equal pixels and a class.
std::string line(const std::string& pixel, const std::string& label) {
  std::string text;
  for (int i = 0; i < 64; ++i) text += pixel + ",";
  return text + label;
}

std::string parse_refusal(const std::string& csv) {
  return refusal([&] { parse_digits(csv, "a.csv"); });
}

TEST(Digits, BundledSetsHaveTheirSizesAndClasses) {
  DataSplit split = load_digits();
  EXPECT_EQ(split.train.inputs.sizes(), (std::vector<int64_t>{3823, 64}));
  EXPECT_EQ(split.test.inputs.sizes(), (std::vector<int64_t>{1797, 64}));
  EXPECT_EQ(split.train.inputs.scalar_type(), at::kFloat);
  EXPECT_EQ(split.train.classes, 10);
  EXPECT_EQ(split.train.name, "digits");
  EXPECT_TRUE(at::equal(at::bincount(split.train.targets),
                        at::tensor({376, 389, 380, 389, 387, 376, 377, 387, 380, 382}, at::kLong)));
  EXPECT_TRUE(at::equal(at::bincount(split.test.targets),
                        at::tensor({178, 182, 177, 183, 181, 182, 181, 179, 174, 180}, at::kLong)));
}

TEST(Digits, PixelsAreSixteenthsInOrder) {
  DataSplit split = load_digits();
  at::Tensor expected = at::tensor({0.0, 1.0, 6.0, 15.0, 12.0, 1.0, 0.0, 0.0, 0.0, 7.0}) / 16;
  EXPECT_TRUE(test::tensor_near(split.train.inputs[0].slice(0, 0, 10), expected, 0));
  EXPECT_EQ(split.train.inputs.min().item<float>(), 0);
  EXPECT_EQ(split.train.inputs.max().item<float>(), 1);
}

TEST(Digits, LastLineNeedsNoEndAndCarriageReturnsAreNoPixels) {
  Dataset data = parse_digits(line("16", "3") + "\r\n" + line("8", "9"), "a.csv");
  EXPECT_TRUE(at::equal(data.targets, at::tensor({3, 9}, at::kLong)));
  EXPECT_TRUE(
      test::tensor_near(data.inputs, at::tensor({1.0, 0.5}).unsqueeze(1).expand({2, 64}), 0));
}

TEST(Digits, RefusesTextThatIsNotTheFormat) {
  const std::string good = line("1", "1") + "\n";
  EXPECT_EQ(parse_refusal(""), "a.csv: empty file, must hold one image a line");
  EXPECT_EQ(parse_refusal(good + "1,2\n"), "a.csv: line 2 has 2 fields, must have 65");
  EXPECT_EQ(parse_refusal(good + line("17", "1")),
            "a.csv: line 2, pixel 1 = '17', must be a whole number 0..16");
  EXPECT_EQ(parse_refusal(line("-1", "1")),
            "a.csv: line 1, pixel 1 = '-1', must be a whole number 0..16");
  EXPECT_EQ(parse_refusal(line("1.5", "1")),
            "a.csv: line 1, pixel 1 = '1.5', must be a whole number 0..16");
  EXPECT_EQ(parse_refusal(line("", "1")),
            "a.csv: line 1, pixel 1 = '', must be a whole number 0..16");
  EXPECT_EQ(parse_refusal(line("1", "10")),
            "a.csv: line 1, class = '10', must be a whole number 0..9");
  EXPECT_EQ(parse_refusal(line("1", "")), "a.csv: line 1, class = '', must be a whole number 0..9");
}

TEST(Digits, ReadsAFolderOfItsOwnFiles) {
  test::TemporaryFolder folder;
  test::write_file(folder / "optdigits.tra", line("4", "2") + "\n" + line("0", "1") + "\n");
  EXPECT_EQ(refusal([&] { load_digits(folder.string()); }),
            (folder / "optdigits.tes").string() +
                ": no such file, the folder data-dir must hold optdigits.tra and optdigits.tes");
  test::write_file(folder / "optdigits.tes", line("8", "7") + "\n");
  DataSplit split = load_digits(folder.string());
  EXPECT_EQ(split.train.size(), 2);
  EXPECT_EQ(split.test.targets.item<int64_t>(), 7);
}

}  // namespace
}  // namespace gradist
