#include "data/libsvm.h"

#include "data/files.h"
#include "support/property.h"

#include <gmock/gmock.h>

namespace gradist {
namespace {

using ::testing::ElementsAre;

SparseRows parse(const std::string& text) { return parse_libsvm(test::reader_of(text), "memory"); }

std::string refusal(const std::string& text) {
  return test::data_refusal([&] { parse(text); });
}

TEST(Libsvm, ReadsRowsCompressed) {
  const SparseRows rows = parse("-1 3:1 11:0.5 \n+1\n2 1:-2e1  4:7\r\n");
  EXPECT_THAT(rows.labels, ElementsAre(-1, 1, 2));
  EXPECT_THAT(rows.starts, ElementsAre(0, 2, 2, 4));
  EXPECT_THAT(rows.columns, ElementsAre(2, 10, 0, 3));
  EXPECT_THAT(rows.values, ElementsAre(1, 0.5, -20, 7));
  EXPECT_EQ(rows.features, 11);
}

TEST(Libsvm, RefusesWithLineAndRule) {
  EXPECT_EQ(refusal("\n"), "memory: no example, must have at least one");
  EXPECT_EQ(refusal("yes 1:1"), "memory:1: label \"yes\", must be a finite number");
  EXPECT_EQ(refusal("1 1:1\n1 0:1"), "memory:2: index \"0\", must be a whole number 1..67108864");
  EXPECT_EQ(refusal("1 -1:1"), "memory:1: index \"-1\", must be a whole number 1..67108864");
  EXPECT_EQ(refusal("1 99999999999999999999:1"),
            "memory:1: index \"99999999999999999999\", must be a whole number 1..67108864");
  EXPECT_EQ(refusal("1 1.5:1"), "memory:1: index \"1.5\", must be a whole number 1..67108864");
  EXPECT_EQ(refusal("1 2:1 2:1"), "memory:1: index 2 after 2, must be larger than the one before");
  EXPECT_EQ(refusal("1 5:1 3:1"), "memory:1: index 3 after 5, must be larger than the one before");
  EXPECT_EQ(refusal("1 5:x"), "memory:1: value \"x\" of index 5, must be a finite number");
  EXPECT_EQ(refusal("1 5:nan"), "memory:1: value \"nan\" of index 5, must be a finite number");
  EXPECT_EQ(refusal("1 5:"), "memory:1: value \"\" of index 5, must be a finite number");
  EXPECT_EQ(refusal("1 5"), "memory:1: \"5\", must be index:value");
}

TEST(Libsvm, StopsAtMoreNumbersThanFit) {
  const auto endless = [](const std::string& line) {
    const ByteReader lines = test::endless_reader_of(line);
    return test::data_refusal([&] { parse_libsvm(lines, "memory", 1000); });
  };
  EXPECT_EQ(endless("1 1:1\n"), "memory:501: more numbers than fit, must be at most 1000");
  EXPECT_EQ(endless("1\n"), "memory:1001: more numbers than fit, must be at most 1000");
  EXPECT_EQ(parse_libsvm(test::reader_of("1 1:1\n2 5:7\n"), "memory", 4).rows(), 2);
}

TEST(Libsvm, ReadsPlainAndCompressedAlike) {
  test::TemporaryFolder folder;
  test::write_file(folder / "plain", "1 2:3\n");
  test::write_gzip(folder / "compressed", "1 2:3\n");
  EXPECT_EQ(read_libsvm(folder / "plain").values, read_libsvm(folder / "compressed").values);
}

RC_GTEST_PROP(LibsvmProperty, WhateverTheTextItIsRowsOrOneLine, (const std::string& text)) {
  RC_ASSERT(refusal(text).find('\n') == std::string::npos);
}

}  // namespace
}  // namespace gradist
