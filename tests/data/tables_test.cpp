#include "data/tables.h"

#include "data/files.h"
#include "data/transforms.h"
#include "support/tensor_near.h"
#include "support/value_error.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using test::is_one_line;
using test::refusal;
using test::same_bits;
using test::tensor_near;
using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kSharedData = GRADIST_SHARED_DATA;

class TablesTest : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) {
    test::write_file(folder_ / name, text);
  }

  DataOptions options(const std::string& data) const {
    return {.data = data, .data_dir = folder_.string(), .standardize = false};
  }

  std::string load_refusal(const DataOptions& options) const {
    return refusal([&] { load_data(options); });
  }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  /// Left in its files, a data set is what it is in memory, whatever is done to it.
  void expect_streamed_alike(DataOptions options) const {
    for (const bool standardize : {false, true}) {
      options.standardize = standardize;
      options.stream = false;
      const DataSplit memory = load_data(options);
      options.stream = true;
      const DataSplit streamed = load_data(options);
      expect_alike(memory.train, streamed.train);
      expect_alike(memory.test, streamed.test);
    }
  }

  static void expect_alike(const Dataset& memory, const Dataset& streamed) {
    ASSERT_TRUE(streamed.stored.has_value());
    EXPECT_FALSE(streamed.inputs.defined());
    EXPECT_EQ(streamed.example_shape(), memory.example_shape());
    EXPECT_EQ(streamed.sparse(), memory.sparse());
    EXPECT_EQ(streamed.classes, memory.classes);
    EXPECT_EQ(streamed.tabular, memory.tabular);
    EXPECT_EQ(streamed.name, memory.name);
    EXPECT_TRUE(same_bits(streamed.targets, memory.targets));
    const at::Tensor backwards = at::arange(memory.size() - 1, -1, -1);
    expect_same(streamed.input_rows(backwards), memory.input_rows(backwards));
    expect_same(streamed.input_range(0, memory.size()), memory.input_range(0, memory.size()));
  }

  static void expect_same(const at::Tensor& streamed, const at::Tensor& memory) {
    ASSERT_EQ(streamed.layout(), memory.layout());
    ASSERT_EQ(streamed.sizes(), memory.sizes());
    if (memory.layout() == at::kStrided) {
      EXPECT_TRUE(same_bits(streamed, memory));
      return;
    }
    EXPECT_TRUE(same_bits(streamed.crow_indices(), memory.crow_indices()));
    EXPECT_TRUE(same_bits(streamed.col_indices(), memory.col_indices()));
    EXPECT_TRUE(same_bits(streamed.values(), memory.values()));
  }

  test::TemporaryFolder folder_;
};

/// Rows of three numbers of very different size and a label, with blank lines here and there.
std::string csv_rows(int begin, int end, bool label_first) {
  std::string text = "a,b,c,d\n\n";
  for (int i = begin; i < end; ++i) {
    const std::string features =
        std::to_string(i * i) + "," + std::to_string(0.001 * (i % 17)) + "," + "7.5";
    const std::string label = std::to_string(i % 3 - 1);
    text += label_first ? label + "," + features : features + "," + label;
    text += i % 5 == 0 ? "\r\n \n" : "\n";
  }
  return text;
}

DataOptions changed(DataOptions options) {
  options.train_examples = 40;
  options.label_corruption = 0.3;
  options.duplicate_points = 2;
  options.duplicate_fraction = 0.3;
  options.seed = 9;
  return options;
}

TEST_F(TablesTest, CsvHasFeaturesAndClasses) {
  write("train.csv", "a,b,class\n1,2,7\n3,4,-1\n5,6,7\n");
  test::write_gzip(folder_ / "test.csv.gz", "7,8,-1\n");
  const DataSplit split = load_data(options("csv"));
  EXPECT_TRUE(at::equal(split.train.inputs, at::tensor({1., 2., 3., 4., 5., 6.}).view({3, 2})));
  EXPECT_TRUE(at::equal(split.train.targets, at::tensor({1, 0, 1}, at::kLong)));
  EXPECT_TRUE(at::equal(split.test.targets, at::tensor({0}, at::kLong)));
  EXPECT_EQ(split.train.classes, 2);
  EXPECT_EQ(split.test.classes, 2);
}

TEST_F(TablesTest, CsvHasNumbersInItsFirstColumn) {
  write("train.csv", "0.5,2\n1.5,4\n");
  write("test.csv", "2.5,6\n");
  DataOptions numbers = options("csv");
  numbers.targets = "numbers";
  numbers.target_column = "first";
  const DataSplit split = load_data(numbers);
  EXPECT_EQ(split.train.classes, 0);
  EXPECT_TRUE(at::equal(split.train.targets, at::tensor({0.5, 1.5}, at::kFloat)));
  EXPECT_TRUE(at::equal(split.test.inputs, at::tensor({6.}, at::kFloat).view({1, 1})));
}

TEST_F(TablesTest, ColumnsAndNumericTargetsAreStandardizedByTheTrainingSet) {
  write("train.csv", "10,5,100\n20,5,300\n");
  write("test.csv", "40,6,500\n");
  DataOptions numbers = options("csv");
  numbers.targets = "numbers";
  numbers.standardize = true;
  const DataSplit split = load_data(numbers);
  EXPECT_TRUE(tensor_near(split.train.inputs, at::tensor({-1., 0., 1., 0.}).view({2, 2}), 1e-6));
  EXPECT_TRUE(tensor_near(split.test.inputs, at::tensor({5., 1.}).view({1, 2}), 1e-6));
  EXPECT_TRUE(tensor_near(split.train.targets, at::tensor({-1., 1.}), 1e-6));
  EXPECT_TRUE(tensor_near(split.test.targets, at::tensor({3.}), 1e-6));
}

TEST_F(TablesTest, CsvRefusals) {
  write("train.csv", "1,2,0\n");
  EXPECT_THAT(load_refusal(options("csv")),
              AllOf(HasSubstr("has no test.csv, must hold train.csv and test.csv"), is_one_line()));
  write("test.csv", "1,0\n");
  EXPECT_EQ(load_refusal(options("csv")),
            path("test.csv") + ": 2 columns, must be 3 as those of " + path("train.csv"));
  write("test.csv", "1,2,3\n");
  EXPECT_EQ(
      load_refusal(options("csv")),
      path("test.csv") +
          ": label 3 of example 0 (from 0), must be one of the 1 classes of the training set");
  write("train.csv", "1,2,0\n1,2,0.5\n");
  EXPECT_EQ(
      load_refusal(options("csv")),
      path("train.csv") +
          ": label 0.5 of example 1 (from 0), must be a whole number where targets = classes");
  write("train.csv", "1,2,0\n1,2,16777217\n");  // as a float the same as 16777216
  EXPECT_EQ(load_refusal(options("csv")),
            path("train.csv") +
                ": label 16777216 of example 1 (from 0), must be -16777215..16777215 where targets "
                "= classes");
  write("train.csv", "1,2,x\n1,2,3\n");
  EXPECT_EQ(load_refusal(options("csv")),
            path("train.csv") + ":1: column 3 is \"x\", must be a finite number");
  DataOptions wrong = options("csv");
  wrong.targets = "labels";
  EXPECT_EQ(load_refusal(wrong), "targets = labels, must be one of classes, numbers");
  wrong = options("csv");
  wrong.target_column = "middle";
  EXPECT_EQ(load_refusal(wrong), "target-column = middle, must be first or last");
}

std::string songs(int count) {
  std::string text;
  for (int song = 0; song < count; ++song) {
    text += std::to_string(1950 + song);
    for (int feature = 0; feature < 90; ++feature) text += "," + std::to_string(song * feature);
    text += "\n";
  }
  return text;
}

TEST_F(TablesTest, YearPredictionKnowsItsLayout) {
  write("YearPredictionMSD.txt", songs(5));
  const DataSplit split = load_year_prediction(folder_.string(), 3);
  EXPECT_EQ(split.train.inputs.sizes(), (std::vector<int64_t>{3, 90}));
  EXPECT_EQ(split.test.inputs.sizes(), (std::vector<int64_t>{2, 90}));
  EXPECT_TRUE(at::equal(split.test.targets, at::tensor({1953., 1954.}, at::kFloat)));
  EXPECT_EQ(split.test.inputs[1][89].item<float>(), 4 * 89);
  EXPECT_EQ(split.train.classes, 0);
  EXPECT_EQ(load_refusal(options("year-prediction-msd")),
            path("YearPredictionMSD.txt") +
                ": 5 songs, must be more than the 463715 of the training set");
  write("YearPredictionMSD.txt", "1950,1\n");
  EXPECT_EQ(load_refusal(options("year-prediction-msd")),
            path("YearPredictionMSD.txt") + ": 2 columns, must be 91, the year and 90 features");
}

TEST_F(TablesTest, CsvStaysInItsFile) {
  for (const bool label_first : {false, true}) {
    write("train.csv", csv_rows(0, 60, label_first));
    write("test.csv", csv_rows(60, 70, label_first));
    DataOptions csv = options("csv");
    csv.target_column = label_first ? "first" : "last";
    expect_streamed_alike(csv);
    expect_streamed_alike(changed(csv));
    csv.targets = "numbers";
    expect_streamed_alike(csv);
  }
}

TEST_F(TablesTest, CsvInItsFileIsRefusedAsInMemory) {
  write("train.csv", "1,2,0\n3,4,1\n");
  test::write_gzip(folder_ / "test.csv.gz", "1,2,0\n");
  DataOptions csv = options("csv");
  csv.stream = true;
  EXPECT_EQ(load_refusal(csv),
            path("test.csv.gz") + ": compressed, must be plain where stream = yes");
  for (const char* text :
       {"1,0\n", "1,2,3\n", "1,2,0\n1,nan,1\n", "1,2,0\n\n1,2\n", "a,b,c\n", ""}) {
    write("test.csv", text);
    DataOptions memory = csv;
    memory.stream = false;
    EXPECT_EQ(load_refusal(csv), load_refusal(memory));
    EXPECT_THAT(load_refusal(csv), AllOf(HasSubstr("test.csv"), is_one_line()));
  }
  write("test.csv", "1,2,0\n");
  const DataSplit split = load_data(csv);
  write("train.csv", "1,2,0\n3,4,1\n5,6,0\n");
  EXPECT_EQ(refusal([&] { split.train.input_range(0, 1); }),
            path("train.csv") + ": has changed, must not while it is read");
}

TEST_F(TablesTest, YearPredictionStaysInItsFile) {
  write("YearPredictionMSD.txt", songs(30));
  DataSplit memory = load_year_prediction(folder_.string(), 20);
  DataSplit streamed = load_year_prediction(folder_.string(), 20, /*stream=*/true);
  standardize(memory);
  standardize(streamed);
  expect_alike(memory.train, streamed.train);
  expect_alike(memory.test, streamed.test);
}

TEST_F(TablesTest, LibsvmStaysInItsFile) {
  std::string text;
  for (int i = 0; i < 60; ++i) {
    text += std::to_string(i % 3) + (i % 7 == 0 ? " " : " " + std::to_string(i + 1) + ":0.5");
    text +=
        " " + std::to_string(100 + i % 4) + ":" + std::to_string(i) + (i % 5 == 0 ? "\n\n" : "\n");
  }
  write("x", text);
  write("x.t", "1 200:1\n0\n");
  expect_streamed_alike(options("libsvm"));
  expect_streamed_alike(changed(options("libsvm")));
  DataOptions streamed = options("libsvm");
  streamed.stream = true;
  EXPECT_EQ(load_data(streamed).train.features(), 200);
  std::filesystem::remove(folder_ / "x");
  test::write_gzip(folder_ / "x.gz", text);
  EXPECT_EQ(load_refusal(streamed),
            path("x.gz") + ": compressed, must be plain where stream = yes");
  write("x", "1 2:1 1:1\n");
  EXPECT_EQ(load_refusal(streamed),
            path("x") + ":1: index 1 after 2, must be larger than the one before");
}

TEST_F(TablesTest, LibsvmStaysSparse) {
  write("a9a", "-1 3:1 11:0.5\n+1 1:2\n-1\n");
  test::write_gzip(folder_ / "a9a.t.gz", "+1 12:1\n");
  const DataSplit split = load_data(options("libsvm"));
  EXPECT_TRUE(split.train.sparse());
  EXPECT_EQ(split.train.size(), 3);
  EXPECT_EQ(split.train.features(), 12);
  EXPECT_EQ(split.test.features(), 12);
  at::Tensor dense = at::zeros({3, 12});
  dense[0][2] = 1;
  dense[0][10] = 0.5;
  dense[1][0] = 2;
  EXPECT_TRUE(at::equal(split.train.inputs.to_dense(), dense));
  EXPECT_TRUE(at::equal(split.train.targets, at::tensor({0, 1, 0}, at::kLong)));
  const at::Tensor rows = at::tensor({2, 0, 0, 1}, at::kLong);
  const at::Tensor some = split.train.input_rows(rows);
  EXPECT_EQ(some.layout(), at::kSparseCsr);
  EXPECT_TRUE(at::equal(some.to_dense(), dense.index_select(0, rows)));
  EXPECT_EQ(split.train.to(at::kCPU, at::kDouble).inputs.values().scalar_type(), at::kDouble);
  // Without a mean to take out, standardising leaves it alone.
  DataOptions standardized = options("libsvm");
  standardized.standardize = true;
  EXPECT_TRUE(at::equal(load_data(standardized).train.inputs.to_dense(), dense));
}

TEST_F(TablesTest, DuplicatesOfSparseExamplesAreWhole) {
  std::string text;
  for (int i = 0; i < 20; ++i) text += std::to_string(i % 2) + " " + std::to_string(i + 1) + ":1\n";
  write("x", text);
  write("x.t", "1 1:1\n");
  DataOptions duplicated = options("libsvm");
  duplicated.duplicate_points = 2;
  duplicated.duplicate_fraction = 0.5;
  const Dataset train = load_data(duplicated).train;
  const at::Tensor kinds = std::get<0>(at::unique_dim(train.inputs.to_dense(), 0));
  EXPECT_EQ(train.size(), 20);
  EXPECT_EQ(kinds.size(0), 12);
}

TEST_F(TablesTest, LibsvmRefusals) {
  EXPECT_EQ(load_refusal(options("libsvm")),
            "data-dir = " + folder_.string() +
                ", has 0 files NAME.t, must hold one pair of files NAME and NAME.t (plain or .gz)");
  write("a9a.t", "1 1:1\n");
  EXPECT_THAT(load_refusal(options("libsvm")), HasSubstr("has no a9a, must hold one pair"));
  write("a9a", "1 2:1 1:1\n");
  EXPECT_EQ(load_refusal(options("libsvm")),
            path("a9a") + ":1: index 1 after 2, must be larger than the one before");
  write("b.t", "");
  write("b", "");
  EXPECT_THAT(load_refusal(options("libsvm")), HasSubstr("has 2 files NAME.t"));
}

TEST(PublishedLibsvm, A9aHasItsSizes) {
  const std::string folder = kSharedData + "/a9a";
  if (!std::filesystem::is_directory(folder)) {
    GTEST_SKIP() << "<repo>/../shared/data/a9a is missing";
  }
  const DataSplit split = load_data({.data = "libsvm", .data_dir = folder});
  EXPECT_EQ(split.train.size(), 32561);
  EXPECT_EQ(split.test.size(), 16281);
  EXPECT_EQ(split.train.features(), 123);
  EXPECT_EQ(split.train.inputs.values().numel(), 451592);
  EXPECT_EQ(split.test.inputs.values().numel(), 225731);
  EXPECT_TRUE(at::equal(at::bincount(split.train.targets), at::tensor({24720, 7841}, at::kLong)));
  const DataSplit streamed = load_data({.data = "libsvm", .data_dir = folder, .stream = true});
  const at::Tensor all = streamed.train.input_range(0, 32561);
  EXPECT_TRUE(same_bits(all.crow_indices(), split.train.inputs.crow_indices()));
  EXPECT_TRUE(same_bits(all.col_indices(), split.train.inputs.col_indices()));
  EXPECT_TRUE(same_bits(all.values(), split.train.inputs.values()));
}

}  // namespace
}  // namespace gradist
