#include "data/hdf5_array.h"

#include "data/dataset.h"
#include "data/files.h"
#include "support/value_error.h"

#include <c10/util/StringUtil.h>
#include <gmock/gmock.h>
#include <hdf5.h>
#include <zlib.h>

#include <cmath>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <random>

namespace gradist {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// As many as asked for by target run_hostile_files, or a few.
int64_t runs(int64_t few) {
  const char* wanted = std::getenv("GRADIST_HOSTILE_FILES");
  return wanted == nullptr ? few : std::strtoll(wanted, nullptr, 10);
}

/// A file of the test's own, with HDF5's own functions, and silent.
class Hdf5ArrayTest : public ::testing::Test {
 protected:
  Hdf5ArrayTest() { H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr); }

  void make(const std::function<void(hid_t)>& fill) const {
    const hid_t file = H5Fcreate(path_.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    fill(file);
    H5Fclose(file);
  }

  static void add(hid_t file, const char* name, const std::vector<hsize_t>& extents,
                  const std::vector<double>& values, hid_t type = H5T_IEEE_F64LE,
                  hid_t creation = H5P_DEFAULT) {
    const hid_t space = H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr);
    const hid_t links = H5Pcreate(H5P_LINK_CREATE);
    H5Pset_create_intermediate_group(links, 1);
    const hid_t set = H5Dcreate2(file, name, type, space, links, creation, H5P_DEFAULT);
    if (!values.empty()) {
      H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    }
    H5Dclose(set);
    H5Pclose(links);
    H5Sclose(space);
  }

  std::string refused(const std::string& name) const {
    const std::string here = test::data_refusal([&] {
      detail::read_hdf5_in_process({path_, name});
    });
    EXPECT_EQ(test::data_refusal([&] { read_hdf5({path_, name}); }), here);
    // More numbers may stay in a file than fit into memory.
    if (name != "many") {
      EXPECT_EQ(test::data_refusal([&] { Hdf5Rows({path_, name}); }), here);
    }
    return here;
  }

  test::TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "a.h5";
};

TEST_F(Hdf5ArrayTest, ReadsNumbersOfAnyWidthUnderAnyName) {
  make([](hid_t file) {
    add(file, "a/b c/inputs", {2, 3}, {0, 1, 2, 3, 4, 5.5});
    add(file, "bytes", {3}, {0, 128, 255}, H5T_STD_U8BE);
    add(file, "small", {2}, {-1, 70000}, H5T_STD_I32BE);
    add(file, "float", {1, 1, 1}, {0.25}, H5T_IEEE_F32BE);
  });
  const auto both = [this](const char* name) {
    const Hdf5Array here = detail::read_hdf5_in_process({path_, name});
    const Hdf5Array child = read_hdf5({path_, name});
    EXPECT_EQ(child.sizes, here.sizes);
    EXPECT_EQ(child.values, here.values);
    return child;
  };
  EXPECT_THAT(both("a/b c/inputs").sizes, ElementsAre(2, 3));
  EXPECT_THAT(both("/a/b c/inputs").values, ElementsAre(0, 1, 2, 3, 4, 5.5F));
  EXPECT_THAT(both("bytes").values, ElementsAre(0, 128, 255));
  EXPECT_THAT(both("small").values, ElementsAre(-1, 70000));
  EXPECT_THAT(both("float").sizes, ElementsAre(1, 1, 1));
  EXPECT_EQ(describe_hdf5(path_),
            "HDF5, 4 data sets: a/b c/inputs [2, 3]; bytes [3]; float [1, 1, 1]; small [2]");
}

TEST_F(Hdf5ArrayTest, ReadsMoreThanAPiece) {
  std::vector<double> values(3 * 700000);
  std::iota(values.begin(), values.end(), 0);
  make([&](hid_t file) { add(file, "x", {700000, 3}, values, H5T_STD_I32LE); });
  const Hdf5Array array = read_hdf5({path_, "x"});
  ASSERT_EQ(array.values.size(), values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(array.values[i], static_cast<float>(values[i])) << i;
  }
}

TEST_F(Hdf5ArrayTest, LeavesRowsInTheFile) {
  std::vector<double> values(3 * 700000);
  std::iota(values.begin(), values.end(), 0);
  make([&](hid_t file) {
    add(file, "x", {700000, 3}, values, H5T_STD_I32LE);
    add(file, "a/cube", {3, 2, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11.5});
    add(file, "line", {3}, {7, 8, 9}, H5T_STD_U8BE);
  });
  const Hdf5Rows cube({path_, "a/cube"}), line({path_, "line"}), x({path_, "x"});
  EXPECT_THAT(cube.sizes(), ElementsAre(3, 2, 2));
  EXPECT_THAT(cube.read(std::vector<int64_t>{2, 0, 2}),
              ElementsAre(8, 9, 10, 11.5F, 0, 1, 2, 3, 8, 9, 10, 11.5F));
  EXPECT_THAT(line.read(std::vector<int64_t>{2, 1, 1, 0}), ElementsAre(9, 8, 8, 7));
  EXPECT_TRUE(line.read({}).empty());
  // More than is read at once, in a row and scattered.
  std::vector<int64_t> rows(700000);
  std::iota(rows.begin(), rows.end(), 0);
  std::ranges::shuffle(rows, std::mt19937(1));
  const std::vector<float> read = x.read(rows);
  ASSERT_EQ(read.size(), values.size());
  for (size_t i = 0; i < read.size(); ++i) {
    ASSERT_EQ(read[i], static_cast<float>(3 * rows[i / 3]) + static_cast<float>(i % 3)) << i;
  }
}

TEST_F(Hdf5ArrayTest, RowsInTheFileMustStayAsTheyAre) {
  make([](hid_t file) { add(file, "x", {3, 2}, {0, 1, 2, 3, 4, 5}); });
  const Hdf5Rows rows({path_, "x"});
  EXPECT_THAT(rows.read(std::vector<int64_t>{1}), ElementsAre(2, 3));
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) + 1);
  const std::string changed = path_.string() + ": has changed, must not while it is read";
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(test::data_refusal([&] { rows.read(std::vector<int64_t>{0}); }), changed);
  }
  std::filesystem::resize_file(path_, 100);
  EXPECT_THAT(test::data_refusal([&] { rows.read(std::vector<int64_t>{2}); }),
              AllOf(HasSubstr("a.h5"), Not(HasSubstr("\n"))));
}

TEST_F(Hdf5ArrayTest, SaysWhatIsWrong) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  make([&](hid_t file) {
    add(file, "group/inputs", {2}, {0, 1});
    add(file, "hole", {2, 3}, {0, 1, 2, 3, nan, 5});
    add(file, "large", {2}, {0, 1e39});
    add(file, "none", {2, 0}, {});
    add(file, "many", {hsize_t{1} << 20, hsize_t{1} << 12}, {});
    const hid_t scalar = H5Screate(H5S_SCALAR);
    H5Dclose(
        H5Dcreate2(file, "scalar", H5T_IEEE_F64LE, scalar, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    const hsize_t two = 2;
    const hid_t space = H5Screate_simple(1, &two, nullptr);
    H5Dclose(H5Dcreate2(file, "text", H5T_C_S1, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Sclose(space);
    H5Sclose(scalar);
    H5Lcreate_soft("/nowhere", file, "dangling", H5P_DEFAULT, H5P_DEFAULT);
  });
  const std::string name = path_.string();
  EXPECT_EQ(refused("inputs"), name + ":inputs: no such data set, must exist");
  EXPECT_EQ(refused("no/inputs"), name + ":no/inputs: no such data set, must exist");
  EXPECT_EQ(refused(""), name + ":: no such data set, must exist");
  EXPECT_EQ(refused("group"), name + ":group: not a data set, must be one");
  EXPECT_EQ(refused("hole"), name +
                                 ":hole: nan at [1, 1], must be finite numbers that 32-bit "
                                 "floats hold");
  EXPECT_THAT(refused("large"), HasSubstr(":large: 1e+39 at [1]"));
  EXPECT_EQ(refused("none"), name + ":none: [2, 0], must have no dimension of size 0");
  EXPECT_THAT(refused("many"), HasSubstr("must be at most 2147483648 numbers"));
  EXPECT_EQ(refused("scalar"), name + ":scalar: 0 dimensions, must be 1 to 8");
  EXPECT_EQ(refused("text"),
            name + ":text: holds no numbers, must hold whole or floating-point numbers");
  EXPECT_THAT(refused("dangling"), HasSubstr(":dangling: cannot be opened ("));
  test::write_file(path_, "no HDF5 at all");
  EXPECT_THAT(refused("x"), AllOf(HasSubstr("a.h5: cannot be opened ("),
                                  HasSubstr("), must be a readable HDF5 file")));
  EXPECT_THAT(test::data_refusal([&] { describe_hdf5(path_); }), HasSubstr("cannot be opened"));
  std::filesystem::remove(path_);
  EXPECT_EQ(refused("x"), name + ": no such file, must exist");
}

int unpacked_before_death = 0;

/// A filter that packs nothing, and of which the process dies as it may of a damaged file.
size_t die_unpacking(unsigned flags, size_t /*parameters*/, const unsigned* /*parameter*/,
                     size_t bytes, size_t* /*size*/, void** /*buffer*/) {
  if ((flags & H5Z_FLAG_REVERSE) != 0 && unpacked_before_death-- == 0) std::abort();
  return bytes;
}

constexpr H5Z_filter_t kDeadly = 300;  // of those that HDF5 leaves to tests

TEST_F(Hdf5ArrayTest, SaysWhatHdf5DiedOf) {
  const H5Z_class2_t deadly = {H5Z_CLASS_T_VERS, kDeadly, 1,       1,
                               "deadly",         nullptr, nullptr, die_unpacking};
  ASSERT_GE(H5Zregister(&deadly), 0);
  make([](hid_t file) {
    const hsize_t numbers = 1 << 18;  // too many for HDF5 to keep them unpacked
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 1, &numbers);
    H5Pset_filter(creation, kDeadly, H5Z_FLAG_MANDATORY, 0, nullptr);
    add(file, "x", {numbers}, std::vector<double>(numbers), H5T_IEEE_F64LE, creation);
    H5Pclose(creation);
  });
  const std::string died =
      path_.string() + ": damaged: HDF5 died of it (aborted), must be a whole HDF5 file";
  const Hdf5Place place{path_, "x"};
  unpacked_before_death = 0;
  EXPECT_EQ(test::data_refusal([&] { read_hdf5(place); }), died);
  EXPECT_EQ(test::data_refusal([&] { describe_hdf5(path_); }), died);
  EXPECT_EQ(test::data_refusal([&] { Hdf5Rows{place}; }), died);
  unpacked_before_death = 1;
  const Hdf5Rows rows(place);
  const std::vector<int64_t> first = {0};
  for (int again = 0; again < 2; ++again) {
    EXPECT_EQ(test::data_refusal([&] { rows.read(first); }), died);
  }
  H5Zunregister(kDeadly);
}

// ---- Files whose structure is sound for HDF5 and anything for us.

/// A data set made at random, and what reading it must give: nothing where it must be refused.
struct Made {
  std::string name;
  bool good = false;
  std::vector<int64_t> sizes;
  std::vector<float> values;
};

class FileMaker {
 public:
  explicit FileMaker(uint32_t seed) : random_(seed) {}

  std::vector<Made> fill(hid_t file) {
    std::vector<Made> all;
    H5Gclose(H5Gcreate2(file, "g", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    for (int i = below(3) + 1; i > 0; --i) {
      const std::string name = (below(2) == 0 ? "g/" : "") + std::string("d") + std::to_string(i);
      all.push_back(below(4) == 0 ? add_odd(file, name) : add_numbers(file, name));
    }
    return all;
  }

 private:
  int below(int limit) { return static_cast<int>(random_() % static_cast<uint32_t>(limit)); }

  /// Something that is no array of numbers.
  Made add_odd(hid_t file, const std::string& name) {
    const hsize_t two = 2;
    const hid_t space = H5Screate_simple(1, &two, nullptr);
    hid_t type = -1;
    switch (below(8)) {
      case 0:
        type = H5Tcopy(H5T_C_S1);
        break;
      case 1:
        type = H5Tcreate(H5T_OPAQUE, 3);
        break;
      case 2:
        type = H5Tvlen_create(H5T_NATIVE_INT);
        break;
      case 3:
        type = H5Tcreate(H5T_COMPOUND, 8);
        H5Tinsert(type, "x", 0, H5T_IEEE_F32LE);
        break;
      case 4:
        type = H5Tenum_create(H5T_NATIVE_INT);
        break;
      case 5:
        type = H5Tarray_create2(H5T_NATIVE_INT, 1, &two);
        break;
      case 6:
        H5Lcreate_soft("/g/d1/nowhere", file, name.c_str(), H5P_DEFAULT, H5P_DEFAULT);
        break;
      default:
        H5Lcreate_external("none.h5", "/x", file, name.c_str(), H5P_DEFAULT, H5P_DEFAULT);
    }
    if (type >= 0) {
      H5Dclose(H5Dcreate2(file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
      H5Tclose(type);
    }
    H5Sclose(space);
    return {.name = name, .sizes = {}, .values = {}};
  }

  /// Of any rank, type and layout; now and then with something wrong.
  Made add_numbers(hid_t file, const std::string& name) {
    std::vector<hsize_t> extents(static_cast<size_t>(below(10)));
    hsize_t count = 1;
    for (hsize_t& extent : extents) {
      extent = below(12) == 0 ? 0 : static_cast<hsize_t>(below(3) + 1);
      count *= extent;
    }
    const hid_t types[] = {H5T_STD_I8LE,  H5T_STD_U8BE,  H5T_STD_I16BE,  H5T_STD_U32LE,
                           H5T_STD_I64BE, H5T_STD_U64LE, H5T_IEEE_F32BE, H5T_IEEE_F64LE};
    const int type = below(8);
    Made made{.name = name, .sizes = {extents.begin(), extents.end()}, .values = {}};
    made.good = !extents.empty() && extents.size() <= 8 && count > 0;
    std::vector<double> values;
    for (hsize_t i = 0; i < count; ++i) values.push_back(below(100));
    if (type >= 6 && count > 0 && below(5) == 0) {
      values[static_cast<size_t>(below(static_cast<int>(count)))] = odd_number();
      made.good = false;
    }
    made.values.assign(values.begin(), values.end());
    write(file, name, extents, types[type], values);
    return made;
  }

  double odd_number() {
    const double infinity = std::numeric_limits<double>::infinity();
    return below(2) == 0 ? std::numeric_limits<double>::quiet_NaN() : -infinity;
  }

  void write(hid_t file, const std::string& name, const std::vector<hsize_t>& extents, hid_t type,
             const std::vector<double>& values) {
    const hid_t space = extents.empty() ? H5Screate(H5S_SCALAR)
                                        : H5Screate_simple(static_cast<int>(extents.size()),
                                                           extents.data(), nullptr);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    const bool empty = values.empty();
    const bool small = values.size() < 8000;  // a compact one has less than 64 KiB
    const int layout = extents.empty() || empty || !small ? 0 : below(3);
    if (layout == 1) H5Pset_layout(creation, H5D_COMPACT);
    if (layout == 2) {
      std::vector<hsize_t> chunk;
      for (size_t d = 0; d < extents.size(); ++d)
        chunk.push_back(static_cast<hsize_t>(below(4) + 1));
      for (size_t d = 0; d < extents.size(); ++d) chunk[d] = std::min(chunk[d], extents[d]);
      H5Pset_chunk(creation, static_cast<int>(chunk.size()), chunk.data());
      if (below(2) == 0) H5Pset_shuffle(creation);
      if (below(2) == 0) H5Pset_deflate(creation, 4);
      if (below(2) == 0) H5Pset_fletcher32(creation);
    }
    const hid_t set =
        H5Dcreate2(file, name.c_str(), type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    ASSERT_GE(set, 0) << name;
    if (!empty) H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data());
    H5Dclose(set);
    H5Pclose(creation);
    H5Sclose(space);
  }

  std::mt19937 random_;
};

class HostileStructures : public Hdf5ArrayTest {
 protected:
  /// What is in the next file at random that has something to be refused, beside sound "inputs"
  /// [3, 2] and "targets" [3].
  std::vector<Made> next() {
    std::vector<Made> all;
    do {
      make([&](hid_t file) {
        all = FileMaker(seed_++).fill(file);
        add(file, "inputs", {3, 2}, {0, 1, 2, 3, 4, 5});
        add(file, "targets", {3}, {0, 1, 0});
      });
    } while (std::ranges::all_of(all, &Made::good));
    return all;
  }

  std::string text_of(const std::string& name) const { return path_.string() + ":" + name; }

  std::string read_refusal(const std::string& name) const {
    return test::data_refusal([&] { detail::read_hdf5_in_process({path_, name}); });
  }

  /// What load_data says where `made` are the training inputs, and all else is sound; or "".
  std::string refusal_of_inputs(const Made& made) const {
    if (!made.good) return read_refusal(made.name);
    std::vector<int64_t> shape(made.sizes.begin() + 1, made.sizes.end());
    if (shape.size() > 3) {
      return text_of(made.name) + ": " + std::to_string(made.sizes.size()) +
             " dimensions, must be [N], [N, features], [N, height, width] or [N, channels, height, "
             "width]";
    }
    if (made.sizes[0] != 3) {
      return text_of("targets") + ": 3 targets, must be as many as the " +
             std::to_string(made.sizes[0]) + " inputs of " + text_of(made.name);
    }
    if (shape.size() == 0 || shape.size() == 2) shape.insert(shape.begin(), 1);
    if (shape == std::vector<int64_t>{2}) return "";
    return text_of("inputs") + ": examples of [2], must be " + c10::str(at::IntArrayRef(shape)) +
           " as those of " + text_of(made.name);
  }

  /// The same where `made` are the targets of training and test.
  std::string refusal_of_targets(const Made& made) const {
    if (!made.good) return read_refusal(made.name);
    if (static_cast<int64_t>(made.values.size()) != made.sizes[0]) {
      return text_of(made.name) + ": " + c10::str(at::IntArrayRef(made.sizes)) +
             " numbers, must be one an example";
    }
    if (made.sizes[0] == 3) return "";
    return text_of(made.name) + ": " + std::to_string(made.sizes[0]) +
           " targets, must be as many as the 3 inputs of " + text_of("inputs");
  }

  /// Inputs and targets of training and test.
  std::string load_refusal(std::vector<std::string> training, std::vector<std::string> testing) {
    const DataOptions options{.data = "hdf5",
                              .data_dir = path_.string(),
                              .hdf5_train = std::move(training),
                              .hdf5_test = std::move(testing)};
    return test::refusal([&] { load_data(options); });
  }

 private:
  uint32_t seed_ = 0;
};

TEST_F(HostileStructures, AreReadOrRefused) {
  int64_t good = 0;
  for (int64_t i = 0; i < runs(1000); ++i) {
    for (const Made& made : next()) {
      const std::string refusal = read_refusal(made.name);
      ASSERT_EQ(refusal.empty(), made.good) << i << " " << made.name << " " << refusal;
      if (made.good) {
        const Hdf5Array array = detail::read_hdf5_in_process({path_, made.name});
        ASSERT_EQ(array.sizes, made.sizes);
        ASSERT_EQ(array.values, made.values);
        ++good;
      } else {
        ASSERT_THAT(refusal, AllOf(StartsWith(text_of(made.name) + ": "), HasSubstr(", must "),
                                   Not(HasSubstr("\n"))));
      }
    }
    ASSERT_EQ(read_refusal("g"), text_of("g") + ": not a data set, must be one");
    ASSERT_EQ(read_refusal("absent"), text_of("absent") + ": no such data set, must exist");
  }
  EXPECT_GT(good, 0);
}

TEST_F(HostileStructures, AreLoadedOrRefused) {
  std::vector<std::string> refusals;
  for (int64_t i = 0; i < runs(1000) / 10; ++i) {
    for (const Made& made : next()) {
      refusals.push_back(load_refusal({made.name, "targets"}, {"inputs", "targets"}));
      ASSERT_EQ(refusals.back(), refusal_of_inputs(made)) << i;
      refusals.push_back(load_refusal({"inputs", made.name}, {"inputs", made.name}));
      ASSERT_EQ(refusals.back(), refusal_of_targets(made)) << i;
    }
  }
  for (const char* rule : {"dimensions, must be [N], ", " targets, must be as many as the ",
                           "examples of [2], must be ", "numbers, must be one an example"}) {
    EXPECT_THAT(refusals, Contains(HasSubstr(rule)));
  }
  EXPECT_THAT(refusals, Contains(""));
}

#ifndef __SANITIZE_ADDRESS__
/// A zlib stream of 2^21 zeros, many times over, without an end.
std::string zeros_without_end(int times) {
  std::string zeros(size_t{1} << 21, '\0'), bytes(size_t{1} << 16, '\0');
  z_stream stream = {};
  deflateInit(&stream, Z_BEST_COMPRESSION);
  std::string all;
  size_t first = 0;
  for (int i = 0; i < 2; ++i) {
    stream.next_in = reinterpret_cast<Bytef*>(zeros.data());
    stream.avail_in = static_cast<uInt>(zeros.size());
    stream.next_out = reinterpret_cast<Bytef*>(bytes.data());
    stream.avail_out = static_cast<uInt>(bytes.size());
    deflate(&stream, Z_FULL_FLUSH);  // what follows looks back at nothing
    first = all.size();
    all.append(bytes, 0, bytes.size() - stream.avail_out);
  }
  deflateEnd(&stream);
  const std::string again = all.substr(first);
  for (int i = 2; i < times; ++i) all += again;
  return all;
}

// 8,192 numbers by its header, and gigabytes by what is compressed in its chunk.
TEST_F(Hdf5ArrayTest, AChunkThatUnpacksWithoutEndIsRefused) {
  const std::string packed = zeros_without_end(1024);
  make([&](hid_t file) {
    const hsize_t numbers = 8192, zero = 0;
    const hid_t space = H5Screate_simple(1, &numbers, nullptr);
    const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(creation, 1, &numbers);
    H5Pset_deflate(creation, 9);
    const hid_t set =
        H5Dcreate2(file, "x", H5T_IEEE_F64LE, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    ASSERT_GE(H5Dwrite_chunk(set, H5P_DEFAULT, 0, &zero, packed.size(), packed.data()), 0);
    H5Dclose(set);
    H5Pclose(creation);
    H5Sclose(space);
  });
  EXPECT_THAT(test::data_refusal([&] {
                read_hdf5({path_, "x"});
              }),
              AllOf(HasSubstr(path_.string() + ":x: cannot be read ("), HasSubstr("memory"),
                    Not(HasSubstr("\n"))));
}
#endif

TEST_F(Hdf5ArrayTest, HostileBytesNeverReachThisProcess) {
  std::vector<double> values(200);
  std::iota(values.begin(), values.end(), 0);
  make([&](hid_t file) {
    add(file, "g/inputs", {20, 10}, values);
    add(file, "targets", {20}, {values.begin(), values.begin() + 20}, H5T_STD_I64LE);
  });
  const std::string sound = test::read_file(path_);
  std::mt19937 random(1);
  int64_t read = 0, refused_count = 0;
  for (int64_t i = 0; i < runs(200); ++i) {
    std::string bytes = sound;
    for (uint32_t changes = random() % 8 + 1; changes > 0; --changes) {
      // Most of the structure stands in the first bytes.
      const size_t reach = random() % 2 == 0 ? 2048 : bytes.size();
      bytes[random() % std::min(reach, bytes.size())] = static_cast<char>(random());
    }
    if (random() % 10 == 0) bytes.resize(random() % bytes.size());
    test::write_file(path_, bytes);
    Hdf5Array array;
    const std::string refusal = test::data_refusal([&] { array = read_hdf5({path_, "g/inputs"}); });
    if (!refusal.empty()) {
      ASSERT_THAT(refusal, AllOf(StartsWith(path_.string() + ":"), HasSubstr(", must "),
                                 Not(HasSubstr("\n"))));
      ++refused_count;
      continue;
    }
    const auto count =
        std::accumulate(array.sizes.begin(), array.sizes.end(), int64_t{1}, std::multiplies<>());
    ASSERT_EQ(count, static_cast<int64_t>(array.values.size()));
    std::vector<int64_t> rows(static_cast<size_t>(array.sizes[0]));
    std::iota(rows.begin(), rows.end(), 0);
    ASSERT_EQ(Hdf5Rows({path_, "g/inputs"}).read(rows), array.values);
    ++read;
  }
  EXPECT_GT(read, 0);
  EXPECT_GT(refused_count, 0);
}

}  // namespace
}  // namespace gradist
