#include "data/idx.h"

#include "data/files.h"
#include "support/property.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>

namespace gradist {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// Delivers `bytes` and remembers the most that was asked for at once.
struct MemoryReader {
  std::string bytes;
  size_t position = 0;
  size_t most_asked = 0;

  size_t operator()(std::span<uint8_t> into) {
    most_asked = std::max(most_asked, into.size());
    size_t count = std::min(into.size(), bytes.size() - position);
    std::memcpy(into.data(), bytes.data() + position, count);
    position += count;
    return count;
  }
};

IdxArray parse(const std::string& bytes, IdxKind kind) {
  return parse_idx(MemoryReader{bytes}, kind, "memory");
}

std::string refusal(const std::filesystem::path& file, IdxKind kind) {
  try {
    read_idx(file, kind);
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

const std::string kImages =
    test::idx_header({2051, 2, 2, 3}) + std::string("\0\1\2\3\4\5\x80\xff\6\7\10\11", 12);

TEST(Idx, ReadsImagesPlainAndCompressedAlike) {
  test::TemporaryFolder folder;
  test::write_file(folder / "plain", kImages);
  test::write_gzip(folder / "compressed", kImages);
  for (const char* name : {"plain", "compressed"}) {
    IdxArray array = read_idx(folder / name, IdxKind::kImages);
    EXPECT_THAT(array.dimensions, ElementsAre(2, 2, 3)) << name;
    EXPECT_THAT(array.values, ElementsAre(0, 1, 2, 3, 4, 5, 128, 255, 6, 7, 8, 9)) << name;
  }
}

TEST(Idx, ReadsLabels) {
  test::TemporaryFolder folder;
  test::write_file(folder / "labels", test::idx_labels({3, 1, 200}));
  IdxArray array = read_idx(folder / "labels", IdxKind::kLabels);
  EXPECT_THAT(array.dimensions, ElementsAre(3));
  EXPECT_THAT(array.values, ElementsAre(3, 1, 200));
}

TEST(Idx, ReadsArraysOfSeveralPieces) {
  std::string pixels(3 * 2800 * 2800, '\0');  // 23.5 MB
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<char>(i % 251);
  IdxArray array = parse(test::idx_header({2051, 3, 2800, 2800}) + pixels, IdxKind::kImages);
  ASSERT_EQ(array.values.size(), pixels.size());
  EXPECT_EQ(std::memcmp(array.values.data(), pixels.data(), pixels.size()), 0);
}

struct BadFile {
  std::string name;
  std::string bytes;
  std::string value;
  std::string rule;
};

class BadIdx : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadIdx, IsRefusedByFileValueAndRule) {
  test::TemporaryFolder folder;
  auto expected = [](const std::filesystem::path& file) {
    return AllOf(StartsWith(file.string() + ": "), HasSubstr(GetParam().value),
                 HasSubstr(GetParam().rule), Not(HasSubstr("\n")));
  };
  test::write_file(folder / "plain", GetParam().bytes);
  EXPECT_THAT(refusal(folder / "plain", IdxKind::kImages), expected(folder / "plain"));
  test::write_gzip(folder / "compressed", GetParam().bytes);
  EXPECT_THAT(refusal(folder / "compressed", IdxKind::kImages), expected(folder / "compressed"));
}

INSTANTIATE_TEST_SUITE_P(
    Files, BadIdx,
    ::testing::Values(
        BadFile{"Empty", "", "empty file", "must begin with a magic number"},
        BadFile{"CutInMagic", kImages.substr(0, 3), "ends after 3 bytes", "at least 4"},
        BadFile{"CutInHeader", kImages.substr(0, 10), "ends after 10 bytes", "at least 12"},
        BadFile{"HeaderOnly", kImages.substr(0, 16), "holds 0 values", "must hold 12 (2 x 2 x 3)"},
        BadFile{"Truncated", kImages.substr(0, kImages.size() - 1), "holds 11 values",
                "must hold 12 (2 x 2 x 3)"},
        BadFile{"Trailing", kImages + "x", "bytes after the last value",
                "must end after 12 values"},
        BadFile{"Labels", test::idx_labels({1, 2}), "magic number 2049", "must be 2051"},
        BadFile{"Text", "hello, world", "magic number 1751477356", "must be 2051"},
        BadFile{"NoImages", test::idx_header({2051, 0, 28, 28}), "dimensions 0 x 28 x 28",
                "at least 1"},
        BadFile{"TooLarge", test::idx_header({2051, 0xffffffff, 28, 28}),
                "dimensions 4294967295 x 28 x 28", "must hold at most 2147483648 values"},
        BadFile{"Overflow", test::idx_header({2051, 0xffffffff, 0xffffffff, 0xffffffff}),
                "4294967295 x 4294967295 x 4294967295", "must hold at most"}),
    [](const auto& given) { return given.param.name; });

TEST(Idx, RefusesImagesWhereLabelsAreDue) {
  test::TemporaryFolder folder;
  test::write_file(folder / "labels", kImages);
  EXPECT_THAT(refusal(folder / "labels", IdxKind::kLabels),
              AllOf(HasSubstr("magic number 2051"), HasSubstr("must be 2049")));
}

TEST(Idx, RefusesPathsThatAreNoFiles) {
  test::TemporaryFolder folder;
  EXPECT_EQ(refusal(folder / "missing", IdxKind::kImages),
            (folder / "missing").string() + ": no such file, must exist");
  EXPECT_EQ(refusal(folder.string(), IdxKind::kImages),
            folder.string() + ": not a file, must be one");
}

TEST(Idx, RefusesDamagedAndCutGzip) {
  test::TemporaryFolder folder;
  test::write_gzip(folder / "good", kImages);
  std::string good = test::read_file(folder / "good");
  std::string wrong_checksum = good;
  wrong_checksum[good.size() - 8] ^= 1;
  std::string wrong_block = good;
  wrong_block[10] = '\x07';  // the reserved block type
  for (const std::string& bytes : {wrong_checksum, wrong_block, good.substr(0, good.size() - 3)}) {
    test::write_file(folder / "bad", bytes);
    EXPECT_THAT(refusal(folder / "bad", IdxKind::kImages),
                AllOf(StartsWith((folder / "bad").string() + ": damaged ("),
                      HasSubstr("must decompress to its end"), Not(HasSubstr("\n"))));
  }
}

TEST(Idx, NeverAsksForMoreThanAPieceWhateverTheHeaderPromises) {
  MemoryReader reader{test::idx_header({2051, 1U << 31, 1, 1}) + "few"};
  EXPECT_THROW(parse_idx(std::ref(reader), IdxKind::kImages, "memory"), DataError);
  EXPECT_LE(reader.most_asked, size_t{1} << 24);
}

RC_GTEST_PROP(IdxProperty, EveryProperPrefixIsRefused, ()) {
  auto length = test::any_between(0, static_cast<int64_t>(kImages.size()) - 1);
  RC_ASSERT_THROWS_AS(parse(kImages.substr(0, static_cast<size_t>(length)), IdxKind::kImages),
                      DataError);
}

RC_GTEST_PROP(IdxProperty, EveryArrayComesBack, ()) {
  auto height = static_cast<uint32_t>(test::any_between(1, 5));
  auto width = static_cast<uint32_t>(test::any_between(1, 5));
  auto count = static_cast<size_t>(test::any_between(1, 4));
  auto pixels = *rc::gen::container<std::vector<uint8_t>>(count * height * width,
                                                          rc::gen::arbitrary<uint8_t>());
  IdxArray array = parse(test::idx_images(pixels, height, width), IdxKind::kImages);
  RC_ASSERT(array.values == pixels);
  RC_ASSERT(array.dimensions == (std::vector<int64_t>{static_cast<int64_t>(count), height, width}));
}

}  // namespace
}  // namespace gradist
