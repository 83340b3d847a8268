#include "tools/unpack.h"

#include "data/files.h"
#include "support/value_error.h"
#include "tools/checksum.h"

#include <archive.h>
#include <archive_entry.h>
#include <gmock/gmock.h>

namespace gradist::detail {
namespace {

namespace fs = std::filesystem;

using ::testing::HasSubstr;

struct Member {
  std::string path, content;
  unsigned type = AE_IFREG;
};

void write_tar_gz(const fs::path& file, const std::vector<Member>& members) {
  archive* made = archive_write_new();
  archive_write_add_filter_gzip(made);
  archive_write_set_format_ustar(made);
  archive_write_open_filename(made, file.c_str());
  for (const Member& member : members) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, member.path.c_str());
    archive_entry_set_filetype(entry, member.type);
    archive_entry_set_perm(entry, 0644);
    if (member.type == AE_IFLNK) archive_entry_set_symlink(entry, member.content.c_str());
    if (member.type == AE_IFREG) {
      archive_entry_set_size(entry, static_cast<la_int64_t>(member.content.size()));
    }
    archive_write_header(made, entry);
    if (member.type == AE_IFREG) {
      archive_write_data(made, member.content.data(), member.content.size());
    }
    archive_entry_free(entry);
  }
  archive_write_free(made);
}

class UnpackTest : public ::testing::Test {
 protected:
  std::string unpack_refusal(const std::vector<std::string>& members) {
    return test::refusal([&] { unpack(folder_ / "a.tar.gz", members, folder_.string()); });
  }

  test::TemporaryFolder folder_;
};

TEST_F(UnpackTest, WritesTheMembersUnderTheirLastNames) {
  const std::string large(300000, 'x');
  write_tar_gz(folder_ / "a.tar.gz", {{"cifar/", "", AE_IFDIR},
                                      {"cifar/test.bin", large},
                                      {"cifar/readme.html", "no"},
                                      {"../../train.bin", "train"}});
  unpack(folder_ / "a.tar.gz", {"train.bin", "test.bin"}, folder_.string());
  EXPECT_EQ(test::read_file(folder_ / "test.bin"), large);
  EXPECT_EQ(test::read_file(folder_ / "train.bin"), "train");
  EXPECT_FALSE(fs::exists(folder_ / "readme.html"));
  EXPECT_FALSE(fs::exists(folder_ / "test.bin.part"));
}

TEST_F(UnpackTest, TakesNoLinks) {
  write_tar_gz(folder_ / "a.tar.gz", {{"train.bin", "/etc/hostname", AE_IFLNK}});
  EXPECT_EQ(unpack_refusal({"train.bin"}),
            (folder_ / "a.tar.gz").string() + ": holds no train.bin, must hold it");
}

TEST_F(UnpackTest, RefusesWhatIsCutShortWithoutGivingItsName) {
  std::string noise;
  for (unsigned i = 0, state = 1; i < 200000; ++i) {
    state = state * 1103515245U + 12345U;
    noise += static_cast<char>(state >> 16U);
  }
  write_tar_gz(folder_ / "a.tar.gz", {{"train.bin", noise}});
  const std::string whole = test::read_file(folder_ / "a.tar.gz");
  test::write_file(folder_ / "a.tar.gz", whole.substr(0, whole.size() / 2));
  EXPECT_THAT(unpack_refusal({"train.bin"}), HasSubstr("a.tar.gz: damaged ("));
  EXPECT_FALSE(fs::exists(folder_ / "train.bin"));
  test::write_file(folder_ / "a.tar.gz", "");
  EXPECT_THAT(unpack_refusal({"train.bin"}), HasSubstr("a.tar.gz: "));
}

TEST(Checksum, IsThatOfTheStandards) {
  test::TemporaryFolder folder;
  test::write_file(folder / "abc", "abc");  // FIPS 180-2 appendix B.1, RFC 1321 appendix A.5
  EXPECT_EQ(checksum_of(folder / "abc", "SHA-256"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(checksum_of(folder / "abc", "MD5"), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(test::refusal([&] { checksum_of(folder / "none", "MD5"); }),
            (folder / "none").string() + ": cannot be read, must be readable");
}

}  // namespace
}  // namespace gradist::detail
