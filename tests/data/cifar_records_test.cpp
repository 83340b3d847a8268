#include "data/cifar_records.h"

#include "data/files.h"
#include "support/property.h"

#include <gmock/gmock.h>

#include <cstring>

namespace gradist {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

CifarRecords parse(const std::string& bytes, const CifarLabels& labels = cifar10_labels()) {
  CifarRecords records;
  parse_cifar(test::reader_of(bytes), labels, "memory", records);
  return records;
}

std::string refusal(const std::string& bytes, const CifarLabels& labels = cifar10_labels()) {
  return test::data_refusal([&] { parse(bytes, labels); });
}

TEST(CifarRecords, SplitsLabelsAndPixels) {
  const CifarRecords records = parse(test::cifar_record({3}, 1) + test::cifar_record({9}, 7));
  EXPECT_THAT(records.labels, ElementsAre(3, 9));
  ASSERT_EQ(records.pixels.size(), 2 * 3072);
  for (size_t p = 0; p < 3072; ++p) {
    ASSERT_EQ(records.pixels[p], (p + 1) % 256);
    ASSERT_EQ(records.pixels[3072 + p], (p + 7) % 256);
  }
}

TEST(CifarRecords, TakesTheFineLabelOfCifar100) {
  EXPECT_THAT(
      parse(test::cifar_record({19, 99}, 0) + test::cifar_record({0, 42}, 0), cifar100_labels())
          .labels,
      ElementsAre(99, 42));
}

TEST(CifarRecords, ReadsMoreThanOnePieceAndWholePieces) {
  for (int64_t count : {15, 16, 17, 32, 100}) {
    std::string bytes;
    for (int64_t i = 0; i < count; ++i) {
      bytes += test::cifar_record({static_cast<uint8_t>(i % 10)}, static_cast<int>(i));
    }
    const CifarRecords records = parse(bytes);
    ASSERT_EQ(records.size(), count);
    EXPECT_EQ(records.labels.back(), (count - 1) % 10);
    EXPECT_EQ(records.pixels.back(), (count - 1 + 3071) % 256);
  }
}

TEST(CifarRecords, AppendsToThoseOfOtherFiles) {
  CifarRecords records = parse(test::cifar_record({1}, 0));
  parse_cifar(test::reader_of(test::cifar_record({2}, 0)), cifar10_labels(), "memory", records);
  EXPECT_THAT(records.labels, ElementsAre(1, 2));
  EXPECT_EQ(records.pixels.size(), 2 * 3072);
}

TEST(CifarRecords, RefusesWithRecordAndRule) {
  const std::string good = test::cifar_record({5}, 0);
  EXPECT_EQ(refusal(""),
            "memory: empty file, must hold records of 3073 bytes (1 label, 3072 pixels)");
  EXPECT_EQ(refusal(good + good.substr(0, 100)),
            "memory: record 1 (from 0) ends after 100 bytes, must have 3073 bytes (1 label, 3072 "
            "pixels)");
  EXPECT_EQ(refusal(good + test::cifar_record({10}, 0)),
            "memory: label 10 at byte 0 of record 1 (from 0), must be 0..9");
  EXPECT_EQ(refusal(test::cifar_record({20, 0}, 0), cifar100_labels()),
            "memory: label 20 at byte 0 of record 0 (from 0), must be 0..19");
  EXPECT_EQ(refusal(test::cifar_record({0, 100}, 0), cifar100_labels()),
            "memory: label 100 at byte 1 of record 0 (from 0), must be 0..99");
  EXPECT_THAT(refusal(good, cifar100_labels()), HasSubstr("3074 bytes (2 labels, 3072 pixels)"));
}

TEST(CifarRecords, StopsAtAMillionRecords) {
  // Zeros without end, as a small .gz may hold.
  const ByteReader endless = [](std::span<uint8_t> into) {
    std::memset(into.data(), 0, into.size());
    return into.size();
  };
  CifarRecords records;
  records.labels.resize((size_t{1} << 20) - 3);  // spares the test 3 GB of pixels
  EXPECT_THROW(parse_cifar(endless, cifar10_labels(), "memory", records), DataError);
  EXPECT_EQ(records.size(), 1 << 20);
}

TEST(CifarRecords, ReadsPlainAndCompressedAlike) {
  test::TemporaryFolder folder;
  const std::string bytes = test::cifar_record({5}, 3);
  test::write_file(folder / "plain", bytes);
  test::write_gzip(folder / "compressed", bytes);
  CifarRecords records;
  for (const char* name : {"plain", "compressed"}) {
    read_cifar(folder / name, cifar10_labels(), records);
  }
  EXPECT_THAT(records.labels, ElementsAre(5, 5));
  EXPECT_TRUE(std::equal(records.pixels.begin(), records.pixels.begin() + 3072,
                         records.pixels.begin() + 3072));
}

RC_GTEST_PROP(CifarRecordsProperty, WhateverTheBytesItIsTheRecordsOrOneLine,
              (const std::string& bytes)) {
  const std::string message = refusal(bytes);
  RC_ASSERT(!message.empty());  // too short for a record
  RC_ASSERT(message.find('\n') == std::string::npos);
}

}  // namespace
}  // namespace gradist
