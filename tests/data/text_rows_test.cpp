#include "data/text_rows.h"

#include "data/csv.h"
#include "data/files.h"
#include "data/libsvm.h"
#include "support/property.h"

#include <gmock/gmock.h>

namespace gradist {
namespace {

using ::testing::ElementsAre;

PlaceReader places_of(const std::string& text) {
  return [text](int64_t position, std::span<uint8_t> into) {
    const auto begin = std::min(static_cast<size_t>(position), text.size());
    const size_t count = std::min(into.size(), text.size() - begin);
    std::copy_n(text.begin() + static_cast<std::ptrdiff_t>(begin), count, into.begin());
    return count;
  };
}

std::vector<float> csv_row(const TextRows& rows, int64_t row, int64_t columns) {
  CsvTable table{.columns = columns, .values = {}};
  rows.parse(row, [&](const TextLine& line) { append_csv_row(line, table); });
  return table.values;
}

TEST(TextIndex, KeepsThePlaceAndTheLabelOfEachRow) {
  const std::string text = "x,y\n\n 1,2 \r\n\n \n3,4\n5,6";
  const TextIndex index = index_csv(test::reader_of(text), "memory", /*first_column=*/false);
  EXPECT_THAT(index.labels, ElementsAre(2, 4, 6));
  EXPECT_THAT(index.begins, ElementsAre(5, 15, 19, 22));
  EXPECT_EQ(index.width, 2);
  EXPECT_THAT(index_csv(test::reader_of(text), "memory", true).labels, ElementsAre(1, 3, 5));
  const TextRows rows(places_of(text), "memory", index.begins);
  EXPECT_EQ(rows.size(), 3);
  EXPECT_THAT(csv_row(rows, 0, 2), ElementsAre(1, 2));
  EXPECT_THAT(csv_row(rows, 2, 2), ElementsAre(5, 6));
}

TEST(TextIndex, FindsLinesThatPiecesCut) {
  std::string text;
  for (int row = 0; row < 20000; ++row)
    text += std::to_string(row) + " 7:" + std::to_string(-row) + "\n";
  ASSERT_GT(text.size(), size_t{3} << 16);
  const TextIndex index = index_libsvm(test::reader_of(text), "memory");
  ASSERT_EQ(index.rows(), 20000);
  EXPECT_EQ(index.width, 7);
  EXPECT_EQ(index.begins.back(), static_cast<int64_t>(text.size()));
  const TextRows rows(places_of(text), "memory", index.begins);
  SparseRows sparse;
  for (int64_t row : {19999, 0, 12345}) {
    rows.parse(row, [&](const TextLine& line) { append_libsvm_row(line, sparse); });
  }
  EXPECT_THAT(sparse.labels, ElementsAre(19999, 0, 12345));
  EXPECT_THAT(sparse.values, ElementsAre(-19999, 0, -12345));
}

TEST(TextIndex, RefusesAsTheReadersDo) {
  const auto csv = [](const std::string& text) {
    return test::data_refusal([&] { index_csv(test::reader_of(text), "memory", true); });
  };
  EXPECT_EQ(csv("a,b\n"), "memory: no row of numbers, must have at least one");
  EXPECT_EQ(csv("1,2\n\n3,4,5\n"), "memory:3: 3 fields, must be 2 as in the first row");
  EXPECT_EQ(csv("1,2\n3,nan\n"), "memory:2: column 2 is \"nan\", must be a finite number");
  EXPECT_EQ(test::data_refusal([] { index_libsvm(test::reader_of("1 2:1 2:1"), "memory"); }),
            "memory:1: index 2 after 2, must be larger than the one before");
}

TEST(TextRows, MustStayAsTheyWere) {
  const std::vector<int64_t> begins = {0, 4, 8};
  const TextRows rows(places_of("1,2\n3;4\n"), "memory", begins);
  EXPECT_THAT(csv_row(rows, 0, 2), ElementsAre(1, 2));
  const std::string changed =
      "memory: row 1 (from 0) is not what it was, must not change while it is read";
  EXPECT_EQ(test::data_refusal([&] { csv_row(rows, 1, 2); }), changed);
  const TextRows shorter(places_of("1,2\n"), "memory", begins);
  EXPECT_EQ(test::data_refusal([&] { csv_row(shorter, 1, 2); }), changed);
}

TEST(TextRows, PassOverManyBlankLines) {
  const std::string text = "1,2" + std::string(3 * kLongestLine, '\n') + "3,4\n";
  const TextIndex index = index_csv(test::reader_of(text), "memory", true);
  const TextRows rows(places_of(text), "memory", index.begins);
  EXPECT_THAT(csv_row(rows, 0, 2), ElementsAre(1, 2));
  EXPECT_THAT(csv_row(rows, 1, 2), ElementsAre(3, 4));
}

/// Texts that are often rows of both formats.
const auto kTexts = rc::gen::container<std::string>(rc::gen::elementOf(std::string("12.-:, \n\r")));

RC_GTEST_PROP(TextRowsProperty, AreTheRowsOfTheWholeText, ()) {
  const std::string text = *kTexts;
  std::string whole, indexed;
  CsvTable table;
  TextIndex index;
  whole = test::data_refusal([&] { table = parse_csv(test::reader_of(text), "memory"); });
  indexed = test::data_refusal([&] { index = index_csv(test::reader_of(text), "memory", true); });
  RC_ASSERT(whole == indexed);
  if (!whole.empty()) return;
  const TextRows rows(places_of(text), "memory", index.begins);
  std::vector<float> values;
  for (int64_t row = 0; row < rows.size(); ++row) {
    for (const float value : csv_row(rows, row, index.width)) values.push_back(value);
  }
  RC_ASSERT(values == table.values);
}

RC_GTEST_PROP(TextRowsProperty, AreTheSparseRowsOfTheWholeText, ()) {
  const std::string text = *kTexts;
  std::string whole, indexed;
  SparseRows all, some;
  TextIndex index;
  whole = test::data_refusal([&] { all = parse_libsvm(test::reader_of(text), "memory"); });
  indexed = test::data_refusal([&] { index = index_libsvm(test::reader_of(text), "memory"); });
  RC_ASSERT(whole == indexed);
  if (!whole.empty()) return;
  const TextRows rows(places_of(text), "memory", index.begins);
  for (int64_t row = 0; row < rows.size(); ++row) {
    rows.parse(row, [&](const TextLine& line) { append_libsvm_row(line, some); });
  }
  RC_ASSERT(some.starts == all.starts);
  RC_ASSERT(some.columns == all.columns);
  RC_ASSERT(some.values == all.values);
  RC_ASSERT(index.labels == all.labels);
  RC_ASSERT(index.width == all.features);
}

}  // namespace
}  // namespace gradist
