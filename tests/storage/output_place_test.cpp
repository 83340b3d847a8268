#include "storage/output_place.h"

#include "data/files.h"
#include "support/value_error.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

namespace gradist::detail {
namespace {

namespace fs = std::filesystem;

class OutputPlace : public ::testing::Test {
 protected:
  std::string checked(const std::string& path, bool overwrite) {
    return test::refusal([&] { check_output_place(path, overwrite); });
  }

  static std::string text_of(const fs::path& file) {
    std::stringstream text;
    text << std::ifstream(file).rdbuf();
    return text.str();
  }

  test::TemporaryFolder folder;
  std::string out = folder / "out.h5";
};

TEST_F(OutputPlace, MayBeNewOrOverwritten) {
  EXPECT_EQ(checked(out, false), "");
  EXPECT_EQ(checked("out_of_this_test.h5", false), "") << "the current folder";
  test::write_file(out, "old");
  EXPECT_EQ(checked(out, true), "");
  EXPECT_EQ(checked(out, false), "out = " + out + ", must not exist without overwrite");
}

TEST_F(OutputPlace, IsInAFolderThatCanBeWritten) {
  const std::string missing = folder / "none/out.h5";
  EXPECT_EQ(checked(missing, false), "out = " + missing + ", must be in an existing folder");
  test::write_file(out, "old");
  EXPECT_EQ(checked(out + "/out.h5", false),
            "out = " + out + "/out.h5, must be in an existing folder");
}

TEST_F(OutputPlace, IsARegularFile) {
  EXPECT_EQ(checked(folder.string(), true),
            "out = " + folder.string() + ", must be a regular file");
  EXPECT_EQ(checked("/dev/null", true), "out = /dev/null, must be a regular file");
}

TEST_F(OutputPlace, MindsWriteProtection) {
  if (geteuid() == 0) {
    GTEST_SKIP() << "root may write everywhere";
  }
  test::write_file(out, "old");
  fs::permissions(out, fs::perms::owner_read);
  EXPECT_EQ(checked(out, true), "out = " + out + ", must be writable to be overwritten");
  const fs::path locked = folder / "locked";
  fs::create_directory(locked);
  fs::permissions(locked, fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_EQ(checked(locked / "out.h5", false),
            "out = " + (locked / "out.h5").string() + ", must be in a writable folder");
  fs::permissions(locked, fs::perms::owner_all);
}

TEST_F(OutputPlace, GetsTheFileUnderItsName) {
  const std::string temporary = folder / "out.h5.partial";
  test::write_file(temporary, "new");
  publish_file(temporary, out, false);
  EXPECT_EQ(text_of(out), "new");
  EXPECT_FALSE(fs::exists(temporary));
}

TEST_F(OutputPlace, KeepsWhatCameInBetween) {
  const std::string temporary = folder / "out.h5.partial";
  test::write_file(temporary, "new");
  check_output_place(out, false);
  test::write_file(out, "somebody else's");
  EXPECT_EQ(test::refusal([&] { publish_file(temporary, out, false); }),
            "out = " + out + ", must not exist without overwrite");
  EXPECT_EQ(text_of(out), "somebody else's");
  publish_file(temporary, out, true);
  EXPECT_EQ(text_of(out), "new");
  EXPECT_EQ(test::refusal([&] { publish_file(temporary, out, true); }),
            out + ", cannot be written: No such file or directory");
}

}  // namespace
}  // namespace gradist::detail
