#include "storage/hdf5_handle.h"

#include "data/files.h"
#include "support/value_error.h"

#include <gtest/gtest.h>
#include <hdf5.h>

#include <utility>

namespace gradist::detail {
namespace {

bool is_open(hid_t id) { return H5Iis_valid(id) > 0; }

hid_t a_space() { return H5Screate(H5S_SCALAR); }

TEST(Hdf5HandleTest, ClosesOnceAtTheEndOfItsLife) {
  const hid_t id = a_space();
  {
    Hdf5Handle handle(id, H5Sclose);
    EXPECT_TRUE(handle);
    EXPECT_EQ(static_cast<hid_t>(handle), id);
    Hdf5Handle other(std::move(handle));
    EXPECT_FALSE(handle);  // NOLINT: what a moved handle is, is the question
    EXPECT_TRUE(is_open(id));
  }
  EXPECT_FALSE(is_open(id));
}

TEST(Hdf5HandleTest, ClosesWhatItHeldWhenItTakesAnother) {
  const hid_t first = a_space();
  const hid_t second = a_space();
  Hdf5Handle handle(first, H5Sclose);
  handle = Hdf5Handle(second, H5Sclose);
  EXPECT_FALSE(is_open(first));
  EXPECT_TRUE(is_open(second));
  handle.reset();
  EXPECT_FALSE(is_open(second));
  handle.reset();
  EXPECT_FALSE(handle);
}

TEST(QuietHdf5Test, PutsTheFormerWayOfPrintingBack) {
  H5E_auto2_t before = nullptr;
  H5E_auto2_t inside = nullptr;
  H5E_auto2_t after = nullptr;
  void* data = nullptr;
  H5Eget_auto2(H5E_DEFAULT, &before, &data);
  {
    const QuietHdf5 quiet;
    H5Eget_auto2(H5E_DEFAULT, &inside, &data);
  }
  H5Eget_auto2(H5E_DEFAULT, &after, &data);
  EXPECT_NE(before, nullptr);
  EXPECT_EQ(inside, nullptr);
  EXPECT_EQ(after, before);
}

TEST(Hdf5CheckTest, SaysFileRuleAndReasonInALine) {
  const QuietHdf5 quiet;
  test::TemporaryFolder folder;
  const std::string missing = folder / "none.h5";
  const Hdf5Check check(missing, "must be a readable file");
  EXPECT_EQ(test::refusal([&] { check(H5Fopen(missing.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT)); }),
            missing + ", must be a readable file: No such file or directory");
  const std::string text = folder / "text.h5";
  test::write_file(text, "no HDF5");
  EXPECT_THAT(
      test::refusal([&] {
        Hdf5Check(text, "must be HDF5")(H5Fopen(text.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
      }),
      ::testing::AllOf(::testing::StartsWith(text + ", must be HDF5: "), test::is_one_line()));
  EXPECT_EQ(check(7), 7) << "a good status is passed on";
}

}  // namespace
}  // namespace gradist::detail
