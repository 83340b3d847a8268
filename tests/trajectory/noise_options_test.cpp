#include "data/files.h"
#include "data/tables.h"
#include "data/transforms.h"
#include "support/tensor_near.h"
#include "support/value_error.h"
#include "trajectory/network_of_run.h"
#include "trajectory/sgd_trajectory.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>

#include <cmath>
#include <set>
#include <sstream>

// Label smoothing, corrupt labels and duplicates [Faghri20, Figs. 6 to 8] on every kind of data.

namespace gradist {
namespace {

using test::refusal;
using test::TemporaryFolder;
using test::write_file;

constexpr int64_t kWritten = 20;  // training examples in the files written here

/// A byte of example i: all examples differ.
uint8_t byte_of(int64_t i, int64_t p) { return static_cast<uint8_t>(11 * i + 3 * p); }

void write_idx(const TemporaryFolder& folder) {
  for (const auto& [name, count] : {std::pair("train", kWritten), {"t10k", int64_t{4}}}) {
    std::vector<uint8_t> pixels, labels;
    for (int64_t i = 0; i < count; ++i) {
      labels.push_back(static_cast<uint8_t>(i % 10));
      for (int64_t p = 0; p < 4; ++p) pixels.push_back(byte_of(i, p));
    }
    write_file(folder / (std::string(name) + "-images-idx3-ubyte"), test::idx_images(pixels, 2, 2));
    write_file(folder / (std::string(name) + "-labels-idx1-ubyte"), test::idx_labels(labels));
  }
}

void write_cifar(const TemporaryFolder& folder, bool coarse) {
  for (const auto& [name, count] : {std::pair("train.bin", kWritten), {"test.bin", int64_t{4}}}) {
    std::string records;
    for (int64_t i = 0; i < count; ++i) {
      const auto fine = static_cast<uint8_t>(i % 10);
      const std::vector<uint8_t> labels =
          coarse ? std::vector<uint8_t>{0, fine} : std::vector<uint8_t>{fine};
      records += test::cifar_record(labels, static_cast<int>(i));
    }
    write_file(folder / name, records);
  }
}

/// Three features, then a label; targets that are numbers have halves.
void write_csv(const TemporaryFolder& folder, bool numbers) {
  for (const auto& [name, count] : {std::pair("train.csv", kWritten), {"test.csv", int64_t{4}}}) {
    std::ostringstream text;
    for (int64_t i = 0; i < count; ++i) {
      text << i << ',' << i * i << ',' << (i % 3) << ',' << (i % 4) << (numbers ? ".5\n" : "\n");
    }
    write_file(folder / name, text.str());
  }
}

void write_libsvm(const TemporaryFolder& folder, bool numbers) {
  for (const auto& [name, count] : {std::pair("tiny", kWritten), {"tiny.t", int64_t{4}}}) {
    std::ostringstream text;
    for (int64_t i = 0; i < count; ++i) {
      text << (i % 4) << (numbers ? ".5" : "") << ' ' << 1 + i % 5 << ':' << i + 1 << " 7:" << i + 1
           << '\n';
    }
    write_file(folder / name, text.str());
  }
}

/// The year, then 90 features.
void write_songs(const TemporaryFolder& folder) {
  std::ostringstream text;
  for (int64_t i = 0; i < kWritten + 4; ++i) {
    text << 1950 + i;
    for (int64_t feature = 0; feature < 90; ++feature) text << ',' << i * feature;
    text << '\n';
  }
  write_file(folder / "YearPredictionMSD.txt", text.str());
}

/// What load_data does with 463,715 songs.
DataSplit load_few_songs(const DataOptions& options) {
  DataSplit split = load_year_prediction(options.data_dir, kWritten);
  standardize(split);
  at::Generator generator = at::detail::createCPUGenerator(options.seed);
  corrupt_labels(split.train, options.label_corruption, generator);
  duplicate_points(split.train, options.duplicate_points, options.duplicate_fraction, generator);
  return split;
}

struct Kind {
  std::string name, data;
  void (*write)(const TemporaryFolder&);
  std::string targets = "classes";
  std::string model = "mlp";
  DataSplit (*load)(const DataOptions&) = load_data;

  RunOptions run(const TemporaryFolder& folder) const {
    write(folder);
    RunOptions options;
    options.data = data;
    options.data_dir = data == "digits" ? "" : folder.string();
    options.targets = targets;
    options.model = model;
    options.hidden = {4};
    options.iterations = 2;
    options.log_every = 1;
    options.refresh_every = 1;
    options.batch_size = 4;
    options.threads = 1;
    options.out.clear();
    return options;
  }
};

std::vector<Kind> kinds_with_classes() {
  return {{"digits", "digits", [](const TemporaryFolder&) {}},
          {"mnist", "mnist", write_idx},
          {"fashion_mnist", "fashion-mnist", write_idx},
          {"cifar10", "cifar10", [](const TemporaryFolder& f) { write_cifar(f, false); }},
          {"cifar100", "cifar100", [](const TemporaryFolder& f) { write_cifar(f, true); }},
          {"csv", "csv", [](const TemporaryFolder& f) { write_csv(f, false); }},
          {"libsvm", "libsvm", [](const TemporaryFolder& f) { write_libsvm(f, false); }, "classes",
           "logistic"}};
}

std::vector<Kind> kinds_with_numbers() {
  return {{"csv", "csv", [](const TemporaryFolder& f) { write_csv(f, true); }, "numbers"},
          {"libsvm", "libsvm", [](const TemporaryFolder& f) { write_libsvm(f, true); }, "numbers",
           "linear"},
          {"year_prediction_msd", "year-prediction-msd", write_songs, "numbers", "mlp",
           load_few_songs}};
}

std::string name_of(const ::testing::TestParamInfo<Kind>& info) { return info.param.name; }

at::Tensor dense(const at::Tensor& inputs) {
  return (inputs.is_sparse_csr() ? inputs.to_dense() : inputs).flatten(1);
}

int64_t distinct_rows(const at::Tensor& inputs) {
  return std::get<0>(at::unique_dim(dense(inputs), 0)).size(0);
}

class NoiseOnClasses : public ::testing::TestWithParam<Kind> {
 protected:
  TemporaryFolder folder_;
  RunOptions options_ = GetParam().run(folder_);
};

TEST_P(NoiseOnClasses, CorruptsItsFractionOfTheLabels) {
  const Dataset plain = load_data(data_options(options_)).train;
  options_.label_corruption = 0.2;
  const Dataset changed = load_data(data_options(options_)).train;
  EXPECT_EQ(changed.targets.ne(plain.targets).sum().item<int64_t>(),
            std::llround(0.2 * static_cast<double>(plain.size())));
  EXPECT_LT(changed.targets.max().item<int64_t>(), plain.classes);
  EXPECT_TRUE(test::same_bits(dense(changed.inputs), dense(plain.inputs)));
}

TEST_P(NoiseOnClasses, RepeatsItsPoints) {
  const Dataset plain = load_data(data_options(options_)).train;
  options_.duplicates = "3,0.5";
  const Dataset changed = load_data(data_options(options_)).train;
  EXPECT_EQ(changed.size(), plain.size());
  const int64_t places = std::llround(0.5 * static_cast<double>(plain.size()));
  EXPECT_EQ(distinct_rows(plain.inputs), plain.size());
  EXPECT_EQ(distinct_rows(changed.inputs), plain.size() - places + 3);
}

TEST_P(NoiseOnClasses, SmoothsItsLabels) {
  const Dataset train = load_data(data_options(options_)).train;
  const double plain =
      network_of_run(options_, train, at::kDouble)->evaluate(train.to(at::kCPU, at::kDouble)).loss;
  options_.label_smoothing = 0.2;
  const auto source = network_of_run(options_, train, at::kDouble);
  const at::Tensor log_p = source->network().forward(source->data().inputs).log_softmax(/*dim=*/1);
  // Every class has the part 0.2 / C of the target.
  const double expected = 0.8 * plain - 0.2 * log_p.mean().item<double>();
  EXPECT_TRUE(test::near(source->evaluate(source->data()).loss, expected, 1e-10));
}

TEST_P(NoiseOnClasses, RunsWithAllOfThem) {
  options_.label_corruption = 0.2;
  options_.duplicates = "3,0.5";
  options_.label_smoothing = 0.1;
  const RunResult result = run(options_);
  EXPECT_EQ(result.iterations, 2);
  EXPECT_TRUE(std::isfinite(result.last->train_loss));
}

INSTANTIATE_TEST_SUITE_P(Data, NoiseOnClasses, ::testing::ValuesIn(kinds_with_classes()), name_of);

class NoiseOnNumbers : public ::testing::TestWithParam<Kind> {
 protected:
  static Dataset train(const RunOptions& options) {
    return GetParam().load(data_options(options)).train;
  }

  TemporaryFolder folder_;
  RunOptions options_ = GetParam().run(folder_);
};

TEST_P(NoiseOnNumbers, RepeatsPoints) {
  options_.duplicates = "3,0.5";
  const Dataset changed = train(options_);
  EXPECT_EQ(changed.size(), kWritten);
  EXPECT_EQ(distinct_rows(changed.inputs), kWritten - 10 + 3);
  if (GetParam().load == load_data) {
    EXPECT_EQ(run(options_).iterations, 2);
  }
}

TEST_P(NoiseOnNumbers, HasNoLabelsToCorruptOrSmooth) {
  RunOptions corrupt = options_, smooth = options_;
  corrupt.label_corruption = 0.1;
  smooth.label_smoothing = 0.1;
  EXPECT_EQ(refusal([&] { train(corrupt); }),
            "label-corruption = 0.1, must be 0 for data of 0 classes: there is no other class to "
            "change to");
  EXPECT_EQ(refusal([&] { network_of_run(smooth, train(smooth)); }),
            "label-smoothing = 0.1, must be 0 for half squared error");
}

INSTANTIATE_TEST_SUITE_P(Data, NoiseOnNumbers, ::testing::ValuesIn(kinds_with_numbers()), name_of);

TEST(NoiseOptions, AreTestedOnEveryKindOfData) {
  std::set<std::string> tested;
  for (const Kind& kind : kinds_with_classes()) tested.insert(kind.data);
  for (const Kind& kind : kinds_with_numbers()) tested.insert(kind.data);
  tested.insert("image-folder");  // against hdf5 in tests/python/test_data_formats.py
  tested.insert("hdf5");          // after its reader the same as csv
  EXPECT_THAT(tested, ::testing::UnorderedElementsAreArray(data_names()));
}

}  // namespace
}  // namespace gradist
