#include "data/csv.h"

#include "data/files.h"
#include "support/property.h"

#include <gmock/gmock.h>

#include <cmath>

namespace gradist {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

CsvTable parse(const std::string& text) { return parse_csv(test::reader_of(text), "memory"); }

std::string refusal(const std::string& text) {
  return test::data_refusal([&] { parse(text); });
}

TEST(Csv, ReadsNumbersRowByRow) {
  const CsvTable table = parse("1,2.5,-3\n4e2, +5 ,6\r\n");
  EXPECT_EQ(table.columns, 3);
  EXPECT_EQ(table.rows(), 2);
  EXPECT_THAT(table.values, ElementsAre(1, 2.5, -3, 400, 5, 6));
}

TEST(Csv, PassesOverAHeaderAndBlankLines) {
  EXPECT_THAT(parse("year,feature\n\n1,2\n  \n3,4").values, ElementsAre(1, 2, 3, 4));
  // One name is no header.
  EXPECT_EQ(refusal("year,2\n1,2\n"), "memory:1: column 1 is \"year\", must be a finite number");
}

TEST(Csv, ReadsLinesThatPiecesCut) {
  std::string text;
  for (int row = 0; row < 20000; ++row)
    text += std::to_string(row) + "," + std::to_string(-row) + "\n";
  ASSERT_GT(text.size(), size_t{3} << 16);
  const CsvTable table = parse(text);
  ASSERT_EQ(table.rows(), 20000);
  for (int row = 0; row < 20000; ++row) {
    ASSERT_EQ(table.values[static_cast<size_t>(2 * row)], static_cast<float>(row));
    ASSERT_EQ(table.values[static_cast<size_t>(2 * row + 1)], static_cast<float>(-row));
  }
}

TEST(Csv, RefusesWithLineAndRule) {
  EXPECT_EQ(refusal(""), "memory: no row of numbers, must have at least one");
  EXPECT_EQ(refusal("a,b\n"), "memory: no row of numbers, must have at least one");
  EXPECT_EQ(refusal("1,2\n3\n"), "memory:2: 1 field, must be at least 2: a target and a feature");
  EXPECT_EQ(refusal("1,2\n\n3,4,5\n"), "memory:3: 3 fields, must be 2 as in the first row");
  EXPECT_EQ(refusal("1,2\n3,nan\n"), "memory:2: column 2 is \"nan\", must be a finite number");
  EXPECT_EQ(refusal("1,-inf\n"), "memory:1: column 2 is \"-inf\", must be a finite number");
  EXPECT_EQ(refusal("1,1e39\n"), "memory:1: column 2 is \"1e39\", must be a finite number");
  EXPECT_EQ(refusal("1,\n"), "memory:1: column 2 is \"\", must be a finite number");
  EXPECT_EQ(refusal("1,2 3\n"), "memory:1: column 2 is \"2 3\", must be a finite number");
  EXPECT_EQ(refusal("1,++2\n"), "memory:1: column 2 is \"++2\", must be a finite number");
  EXPECT_EQ(refusal("1,a\x01long text that goes on\n"),
            "memory:1: column 2 is \"a?long text that goe...\", must be a finite number");
}

TEST(Csv, StopsAtALineWithoutEnd) {
  EXPECT_EQ(refusal(std::string((size_t{1} << 24) + (size_t{1} << 17), '1')),
            "memory:1: line without an end, must have at most 16777216 bytes");
}

TEST(Csv, StopsAtMoreNumbersThanFit) {
  const ByteReader endless = test::endless_reader_of("1,2\n");
  EXPECT_EQ(test::data_refusal([&] { parse_csv(endless, "memory", 1000); }),
            "memory:501: more numbers than fit, must be at most 1000");
  EXPECT_EQ(parse_csv(test::reader_of("1,2\n3,4\n"), "memory", 4).rows(), 2);
}

TEST(Csv, ReadsPlainAndCompressedAlike) {
  test::TemporaryFolder folder;
  test::write_file(folder / "plain", "1,2\n");
  test::write_gzip(folder / "compressed", "1,2\n");
  EXPECT_EQ(read_csv(folder / "plain").values, read_csv(folder / "compressed").values);
}

RC_GTEST_PROP(CsvProperty, ReadsBackWhatWasWritten, ()) {
  const auto columns = *rc::gen::inRange(2, 6);
  const auto rows = *rc::gen::inRange(1, 6);
  const auto values = *rc::gen::container<std::vector<int>>(static_cast<size_t>(rows * columns),
                                                            rc::gen::arbitrary<int>());
  std::string text;
  for (size_t i = 0; i < values.size(); ++i) {
    text += std::to_string(values[i]) + ((i + 1) % static_cast<size_t>(columns) == 0 ? "\n" : ",");
  }
  const CsvTable table = parse(text);
  RC_ASSERT(table.columns == columns && table.rows() == rows);
  for (size_t i = 0; i < values.size(); ++i)
    RC_ASSERT(table.values[i] == static_cast<float>(values[i]));
}

RC_GTEST_PROP(CsvProperty, WhateverTheTextItIsATableOrOneLine, (const std::string& text)) {
  RC_ASSERT(refusal(text).find('\n') == std::string::npos);
}

}  // namespace
}  // namespace gradist
