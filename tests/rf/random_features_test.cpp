#include "rf/random_features.h"

#include "rf/kernels.h"
#include "rf/philox.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

namespace gradist::rf {
namespace {

/// Row `row` of a stream's normal numbers, in float64.
std::vector<double> normals(uint64_t seed, Stream stream, int64_t row, int64_t count) {
  Rows<float> numbers(1, (count + 63) / 64 * 64);
  detail::kernels().normals(seed, static_cast<uint32_t>(stream), static_cast<uint32_t>(row),
                            numbers.stride(), numbers.data());
  return {numbers.data(), numbers.data() + count};
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t j = 0; j < a.size(); ++j) {
    sum += a[j] * b[j];
  }
  return sum;
}

/// sigma of the inner product with the unit scaled to norm 1.
double feature(const std::vector<double>& x, const std::vector<double>& unit,
               Activation activation) {
  const double z = dot(x, unit) / std::sqrt(dot(unit, unit));
  switch (activation) {
    case Activation::kRelu:
      return std::max(z, 0.0);
    case Activation::kTanh:
      return std::tanh(z);
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-z));
    case Activation::kIdentity:
      return z;
  }
  return 0;
}

FeatureOptions small(Activation activation = Activation::kRelu) {
  return {.seed = 11,
          .d_in = 700,  // more than one step of depth
          .h_teacher = {20, 300},
          .h_student = {37, 41},
          .examples = 251,  // more than one block of rows
          .test_examples = 13,
          .activation = activation};
}

// Sums of 700 products in float32 of magnitude about 26: error about 26 * 700 * eps / 2 at worst.
constexpr double kTolerance = 1e-3;

class RandomFeaturesTest : public ::testing::TestWithParam<Activation> {};

TEST_P(RandomFeaturesTest, AreTheFormulaAtTheirAddresses) {
  const FeatureOptions options = small(GetParam());
  const FeatureSet set = make_features(options, 1);
  for (const int64_t i : {int64_t{0}, int64_t{100}, int64_t{239}, int64_t{240}, int64_t{250}}) {
    const auto x = normals(options.seed, Stream::kInputs, i, options.d_in);
    for (const int64_t width : options.h_student) {
      const float* row = set.train.at(width).row(i);
      for (int64_t u = 0; u < width; ++u) {
        const auto unit = normals(options.seed, Stream::kStudentFeatures, u, options.d_in);
        EXPECT_NEAR(row[u], feature(x, unit, options.activation), kTolerance);
      }
      EXPECT_EQ(row[width], 1);
      EXPECT_EQ(row[width + 1], 0);
    }
    for (const int64_t width : options.h_teacher) {
      const auto readout = normals(options.seed, Stream::kTeacherReadout, 0, width);
      double output = 0;
      for (int64_t u = 0; u < width; ++u) {
        const auto unit = normals(options.seed, Stream::kTeacherFeatures, u, options.d_in);
        output += readout[static_cast<size_t>(u)] * feature(x, unit, options.activation);
      }
      EXPECT_NEAR(set.teacher_train.at(width)[static_cast<size_t>(i)], output,
                  kTolerance * std::sqrt(width));
    }
  }
  const auto x = normals(options.seed, Stream::kTestInputs, 12, options.d_in);
  const auto unit = normals(options.seed, Stream::kStudentFeatures, 36, options.d_in);
  EXPECT_NEAR(set.test.at(37).row(12)[36], feature(x, unit, options.activation), kTolerance);
}

INSTANTIATE_TEST_SUITE_P(Activations, RandomFeaturesTest,
                         ::testing::Values(Activation::kRelu, Activation::kTanh,
                                           Activation::kSigmoid, Activation::kIdentity));

bool same(const Rows<float>& a, const Rows<float>& b, int64_t rows) {
  return std::memcmp(a.data(), b.data(), static_cast<size_t>(rows * a.stride()) * sizeof(float)) ==
         0;
}

TEST(RandomFeatures, DoNotDependOnTheNumberOfThreads) {
  const FeatureOptions options = small();
  const FeatureSet one = make_features(options, 1);
  const FeatureSet three = make_features(options, 3);
  EXPECT_TRUE(same(one.train.at(41), three.train.at(41), options.examples));
  EXPECT_TRUE(same(one.test.at(41), three.test.at(41), options.test_examples));
  EXPECT_EQ(one.teacher_train, three.teacher_train);
  EXPECT_EQ(one.teacher_bias, three.teacher_bias);
}

// So the largest sizes are computed once for all.
TEST(RandomFeatures, SmallSizesAreThePartsOfLargeOnes) {
  const FeatureSet large = make_features(small(), 1);
  FeatureOptions options = small();
  options.h_teacher = {20};
  options.h_student = {37};
  options.examples = 10;
  const FeatureSet part = make_features(options, 1);
  EXPECT_TRUE(same(part.train.at(37), large.train.at(37), 10));
  for (size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(part.teacher_train.at(20)[i], large.teacher_train.at(20)[i]);
  }
}

// z = <x, unit of norm 1> is N(0, 1) whatever the dimension: over n = 251 * 41 numbers of 41
// dependent columns, five standard deviations of a mean of 251 independent rows' sums.
TEST(RandomFeatures, UnitsHaveNormOne) {
  const FeatureOptions options = small(Activation::kIdentity);
  const FeatureSet set = make_features(options, 1);
  double squares = 0;
  for (int64_t i = 0; i < options.examples; ++i) {
    for (int64_t u = 0; u < 41; ++u) {
      squares += std::pow(set.train.at(41).row(i)[u], 2);
    }
  }
  // Units are nearly orthogonal (700 dimensions), so a row's 41 squares are nearly independent:
  // variance 2 each, and at most 41 times that if they were all the same.
  const double mean = squares / static_cast<double>(options.examples * 41);
  EXPECT_NEAR(mean, 1, 5 * std::sqrt(2.0 / static_cast<double>(options.examples)));
}

}  // namespace
}  // namespace gradist::rf
