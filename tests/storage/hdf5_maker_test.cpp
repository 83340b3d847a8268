#include "storage/hdf5_maker.h"

#include "data/files.h"
#include "support/stored_datasets.h"
#include "support/value_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>
#include <hdf5_hl.h>

#include <cmath>
#include <ctime>
#include <fstream>
#include <sstream>

namespace gradist::detail {
namespace {

using ::testing::ElementsAre;

/// What is made is read back by the plain C interface alone.
class Hdf5MakerTest : public ::testing::Test {
 protected:
  static std::string bytes_of(const std::string& path) {
    std::stringstream bytes;
    bytes << std::ifstream(path, std::ios::binary).rdbuf();
    return bytes.str();
  }

  const QuietHdf5 quiet;
  test::TemporaryFolder folder;
  std::string path = folder / "made.h5";
  Hdf5Check check{path, "cannot be written"};
  Hdf5Maker make{check};
};

TEST_F(Hdf5MakerTest, RefusesAFileThatIsThere) {
  test::write_file(path, "precious");
  EXPECT_THAT(
      test::refusal([&] { make.file(path); }),
      ::testing::AllOf(::testing::StartsWith(path + ", cannot be written: "), test::is_one_line()));
  EXPECT_EQ(bytes_of(path), "precious");
}

TEST_F(Hdf5MakerTest, WhatWasNotWrittenIsNaNOrZero) {
  {
    const auto file = make.file(path);
    make.block<double>(file, "reals", {2, 3});
    make.block<uint8_t>(file, "flags", {4});
    make.dataset<double>(file, "growing", {2}, {H5S_UNLIMITED}, {8});
    make.dataset<int64_t>(file, "wholes", {2}, {H5S_UNLIMITED}, {8});
  }
  const auto stored = test::stored_datasets(path);
  EXPECT_THAT(stored.at("reals").extents, ElementsAre(2, 3));
  for (const char* name : {"reals", "growing"}) {
    for (const double number : stored.at(name).values<double>()) {
      EXPECT_TRUE(std::isnan(number)) << name;
    }
  }
  EXPECT_THAT(stored.at("flags").values<uint8_t>(), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(stored.at("wholes").values<int64_t>(), ElementsAre(0, 0));
}

TEST_F(Hdf5MakerTest, ABlockHasItsPlaceAtOnce) {
  const auto file = make.file(path);
  const auto block = make.block<double>(file, "block", {5, 7});
  const auto growing = make.dataset<double>(file, "growing", {0}, {H5S_UNLIMITED}, {8});
  EXPECT_EQ(H5Dget_storage_size(block), 5 * 7 * sizeof(double));
  EXPECT_EQ(H5Dget_storage_size(growing), 0U);
}

TEST_F(Hdf5MakerTest, ADatasetGrowsToItsLimit) {
  const auto file = make.file(path);
  const auto growing = make.dataset<int32_t>(file, "growing", {1, 3}, {H5S_UNLIMITED, 3}, {4, 3});
  const hsize_t longer[] = {9, 3};
  const hsize_t wider[] = {9, 4};
  EXPECT_GE(H5Dset_extent(growing, longer), 0);
  EXPECT_LT(H5Dset_extent(growing, wider), 0);
}

TEST_F(Hdf5MakerTest, ScalesNameTheAxesOfWhatTheyAreAttachedTo) {
  {
    const auto file = make.file(path);
    const auto rate = make.scale<double>(file, "lr", {0.1, 0.01});
    const auto seed = make.scale<int64_t>(file, "seed", {3, 4, 5});
    const auto name = make.scale(file, "estimator", {"sg-b", "größer"});
    const auto block = make.block<double>(file, "block", {2, 3, 2});
    H5DSattach_scale(block, rate, 0);
    H5DSattach_scale(block, seed, 1);
    H5DSattach_scale(block, name, 2);
  }
  const hid_t file = H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT);
  double rates[2];
  int64_t seeds[3];
  ASSERT_GE(H5LTread_dataset(file, "lr", H5T_NATIVE_DOUBLE, rates), 0);
  ASSERT_GE(H5LTread_dataset(file, "seed", H5T_NATIVE_INT64, seeds), 0);
  EXPECT_THAT(rates, ElementsAre(0.1, 0.01));
  EXPECT_THAT(seeds, ElementsAre(3, 4, 5));
  const hid_t block = H5Dopen2(file, "block", H5P_DEFAULT);
  EXPECT_THAT(test::detail::scales_of(block, 3), ElementsAre("/lr", "/seed", "/estimator"));
  const hid_t names = H5Dopen2(file, "estimator", H5P_DEFAULT);
  const hid_t type = H5Dget_type(names);
  EXPECT_EQ(H5Tget_cset(type), H5T_CSET_UTF8);
  char* texts[2];
  H5Dread(names, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, texts);
  EXPECT_STREQ(texts[0], "sg-b");
  EXPECT_STREQ(texts[1], "größer");
  for (char* text : texts) {
    H5free_memory(text);
  }
  H5Tclose(type);
  H5Dclose(names);
  H5Dclose(block);
  H5Fclose(file);
}

TEST_F(Hdf5MakerTest, AttributesAreOneWholeNumberOrOneText) {
  const auto file = make.file(path);
  make.attribute(file, "version", int64_t{-3});
  make.attribute(file, "config", std::string("lr = 0.1\n"));
  int64_t version = 0;
  ASSERT_GE(H5LTget_attribute(file, "/", "version", H5T_NATIVE_INT64, &version), 0);
  EXPECT_EQ(version, -3);
  char* text = nullptr;
  ASSERT_GE(H5LTget_attribute_string(file, "/", "config", reinterpret_cast<char*>(&text)), 0);
  EXPECT_STREQ(text, "lr = 0.1\n");
  H5free_memory(text);
  EXPECT_THAT(test::refusal([&] { make.attribute(file, "version", int64_t{4}); }),
              ::testing::StartsWith(path + ", cannot be written: "));
}

TEST_F(Hdf5MakerTest, GroupsKeepTheOrderOfTheirMembers) {
  const auto file = make.file(path);
  const auto group = make.group(file, "group");
  for (const char* name : {"zebra", "ape", "mouse"}) {
    make.group(group, name);
  }
  for (const auto& [place, name] : {std::pair(0, "zebra"), {1, "ape"}, {2, "mouse"}}) {
    char found[8] = {};
    H5Lget_name_by_idx(group, ".", H5_INDEX_CRT_ORDER, H5_ITER_INC, static_cast<hsize_t>(place),
                       found, sizeof found, H5P_DEFAULT);
    EXPECT_STREQ(found, name);
  }
}

// A time of creation would be whole seconds.
TEST_F(Hdf5MakerTest, TheSameContentsAreTheSameBytesAtAnotherTime) {
  const auto write = [this](const std::string& to) {
    const auto file = make.file(to);
    make.attribute(file, "schema", std::string("test"));
    make.scale<int64_t>(make.group(file, "group"), "n", {1, 2});
    make.scale(file, "name", {"a", "b"});
    make.block<double>(file, "block", {2, 2});
  };
  write(path);
  const std::time_t then = std::time(nullptr);
  while (std::time(nullptr) == then) {
    usleep(20'000);
  }
  const std::string later = folder / "later.h5";
  write(later);
  EXPECT_EQ(bytes_of(path), bytes_of(later));
}

}  // namespace
}  // namespace gradist::detail
