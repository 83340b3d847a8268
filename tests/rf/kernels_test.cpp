#include "rf/kernels.h"

#include "rf/philox.h"
#include "rf/rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

namespace gradist::rf {
namespace {

using detail::kBlock;
using detail::Kernels;
using detail::kLanes;
using detail::kMaxFirst;
using detail::kMaxSecond;

/// Normal numbers by the formulas of Box and Muller in float64.
std::vector<double> slow_normals(uint64_t seed, Stream stream, uint32_t row, int64_t count) {
  const Philox philox(seed, stream);
  std::vector<double> numbers(static_cast<size_t>(count));
  for (int64_t j = 0; j < count; j += 64) {
    for (int64_t l = 0; l < kLanes; ++l) {
      const auto words = philox(row, static_cast<uint32_t>(j / 4 + l));
      for (size_t pair = 0; pair < 2; ++pair) {
        const double u = ((words[2 * pair] >> 9) + 0.5) / 8388608;
        const double angle = 2 * M_PI * words[2 * pair + 1] / 4294967296.0;
        const double radius = std::sqrt(-2 * std::log(u));
        const auto place = static_cast<size_t>(j + 32 * static_cast<int64_t>(pair) + l);
        numbers[place] = radius * std::cos(angle);
        numbers[place + 16] = radius * std::sin(angle);
      }
    }
  }
  return numbers;
}

template <class T>
Rows<T> normal_rows(int64_t count, int64_t width, uint32_t first = 0) {
  Rows<T> rows(count, width);
  for (int64_t i = 0; i < count; ++i) {
    const auto numbers =
        slow_normals(9, Stream::kInputs, first + static_cast<uint32_t>(i), (width + 63) / 64 * 64);
    for (int64_t j = 0; j < width; ++j) {
      rows.row(i)[j] = static_cast<T>(numbers[static_cast<size_t>(j)]);
    }
  }
  return rows;
}

std::vector<const Kernels*> levels() {
  int64_t count = 0;
  const Kernels* const* all = detail::available_kernels(count);
  return {all, all + count};
}

class KernelsTest : public ::testing::TestWithParam<const Kernels*> {
 protected:
  const Kernels& kernels = *GetParam();
};

// The sines' and cosines' series are good to 2e-9, the logarithm's to 4e-9; what is left is a few
// roundings of float32 at a radius of at most 5.8.
TEST_P(KernelsTest, NormalsAreThoseOfBoxAndMuller) {
  constexpr int64_t kCount = 64 * 200;
  Rows<float> fast(1, kCount);
  kernels.normals(77, static_cast<uint32_t>(Stream::kInputs), 5, kCount, fast.data());
  const auto slow = slow_normals(77, Stream::kInputs, 5, kCount);
  for (int64_t j = 0; j < kCount; ++j) {
    EXPECT_NEAR(fast.data()[j], slow[static_cast<size_t>(j)], 3e-6) << j;
  }
}

// n = 2^17 numbers of variance 1: five standard deviations of each sample moment, fixed seed.
TEST_P(KernelsTest, NormalsHaveTheMomentsOfANormal) {
  constexpr int64_t kCount = 1 << 17;
  Rows<float> numbers(1, kCount);
  kernels.normals(1, static_cast<uint32_t>(Stream::kInputs), 0, kCount, numbers.data());
  double sums[5] = {};
  for (int64_t j = 0; j < kCount; ++j) {
    double power = 1;
    for (int m = 1; m <= 4; ++m) {
      power *= numbers.data()[j];
      sums[m] += power / kCount;
    }
  }
  const double root = std::sqrt(static_cast<double>(kCount));
  EXPECT_NEAR(sums[1], 0, 5 / root);
  EXPECT_NEAR(sums[2], 1, 5 * std::sqrt(2) / root);
  EXPECT_NEAR(sums[3], 0, 5 * std::sqrt(15) / root);
  EXPECT_NEAR(sums[4], 3, 5 * std::sqrt(96) / root);
}

// Sums of `depth` products in float32, one after another: error at most depth * eps * sum |a b|.
TEST_P(KernelsTest, MultipliesPackedMatrices) {
  constexpr int64_t kDepth = 37, kBDepth = 50, kPanels = 4, kTiles = 2;
  const int64_t tile = kernels.tile_rows;
  const auto a = normal_rows<float>(kTiles * tile, kDepth);
  const auto b = normal_rows<float>(kPanels * kLanes, kBDepth, 1000);
  Rows<float> packed_a(1, kTiles * tile * kDepth), packed_b(kPanels, kBDepth * kLanes);
  for (int64_t m = 0; m < a.count(); ++m) {
    for (int64_t k = 0; k < kDepth; ++k) {
      packed_a.data()[(m / tile * kDepth + k) * tile + m % tile] = a.row(m)[k];
    }
  }
  for (int64_t u = 0; u < b.count(); ++u) {
    for (int64_t k = 0; k < kBDepth; ++k) {
      packed_b.row(u / kLanes)[k * kLanes + u % kLanes] = b.row(u)[k];
    }
  }
  Rows<float> c(kTiles * tile, kPanels * kLanes);
  c.row(1)[3] = 10;
  kernels.multiply(packed_a.data(), kTiles, packed_b.data(), kPanels, kBDepth, kDepth, c.data(),
                   c.stride());
  for (int64_t m = 0; m < c.count(); ++m) {
    for (int64_t u = 0; u < c.width(); ++u) {
      double sum = m == 1 && u == 3 ? 10 : 0, magnitude = sum;
      for (int64_t k = 0; k < kDepth; ++k) {
        sum += static_cast<double>(a.row(m)[k]) * b.row(u)[k];
        magnitude += std::abs(static_cast<double>(a.row(m)[k]) * b.row(u)[k]);
      }
      EXPECT_NEAR(c.row(m)[u], sum, (kDepth + 1) * 6e-8 * magnitude) << m << " " << u;
    }
  }
}

/// The row kernels against plain loops. Sums of n products: error at most n eps sum |.|.
template <class T>
void check_rows(const Kernels& kernels) {
  const auto& fast = detail::row_kernels<T>(kernels);
  const double eps = std::numeric_limits<T>::epsilon();
  constexpr int64_t kCount = 40, kWidth = 75, kVectors = 5;
  const auto psi = normal_rows<T>(kCount, kWidth);
  const auto v = normal_rows<T>(kVectors, kWidth, 500);
  const std::vector<int32_t> index = {3, 39, 0, 3, 17, 21, 8};
  const auto n = static_cast<int64_t>(index.size());

  std::vector<double> one(index.size()), many(index.size() * kVectors);
  fast.dots(psi.data(), psi.stride(), index.data(), n, v.row(2), one.data());
  fast.dots_many(psi.data(), psi.stride(), index.data(), n, v.data(), kVectors, many.data());
  for (size_t i = 0; i < index.size(); ++i) {
    for (int64_t k = 0; k < kVectors; ++k) {
      double sum = 0, magnitude = 0;
      for (int64_t j = 0; j < kWidth; ++j) {
        const double product = static_cast<double>(psi.row(index[i])[j]) * v.row(k)[j];
        sum += product;
        magnitude += std::abs(product);
      }
      EXPECT_NEAR(many[i * kVectors + static_cast<size_t>(k)], sum, kWidth * eps * magnitude);
      if (k == 2) {
        EXPECT_EQ(one[i], many[i * kVectors + 2]) << "one vector or many, the same sum";
      }
    }
  }

  std::vector<T> c;
  for (int64_t i = 0; i < n; ++i) {
    c.push_back(static_cast<T>(0.5 - 0.25 * static_cast<double>(i)));
  }
  Rows<T> w = v.copy();
  fast.combine(psi.data(), psi.stride(), index.data(), n, c.data(), T{0.75}, w.row(1));
  for (int64_t j = 0; j < kWidth; ++j) {
    double sum = 0.75 * v.row(1)[j], magnitude = std::abs(sum);
    for (size_t i = 0; i < index.size(); ++i) {
      const double product = static_cast<double>(c[i]) * psi.row(index[i])[j];
      sum += product;
      magnitude += std::abs(product);
    }
    EXPECT_NEAR(w.row(1)[j], sum, 9 * eps * magnitude);
  }

  std::vector<T> a(kMaxFirst * kBlock), b(kMaxSecond * kBlock);
  for (size_t i = 0; i < index.size(); ++i) {
    for (int64_t s = 0; s < kMaxFirst; ++s) {
      a[static_cast<size_t>(s * kBlock) + i] = static_cast<T>(0.1 * static_cast<double>(i + s));
    }
    for (int64_t s = 0; s < kMaxSecond; ++s) {
      b[static_cast<size_t>(s * kBlock) + i] = static_cast<T>(0.3 * static_cast<double>(i) - s);
    }
  }
  for (int64_t firsts = 1; firsts <= kMaxFirst; ++firsts) {
    for (int64_t seconds = 0; seconds <= kMaxSecond; ++seconds) {
      Rows<double> first(kMaxFirst, kWidth), second(kMaxSecond, kWidth);
      fast.accumulate(psi.data(), psi.stride(), index.data(), n, firsts, a.data(), first.data(),
                      seconds, b.data(), second.data());
      for (int64_t j = 0; j < kWidth; ++j) {
        for (int64_t s = 0; s < kMaxFirst; ++s) {
          double sum = 0, magnitude = 0;
          for (size_t i = 0; i < index.size() && s < firsts; ++i) {
            const double product =
                static_cast<double>(a[static_cast<size_t>(s * kBlock) + i]) * psi.row(index[i])[j];
            sum += product;
            magnitude += std::abs(product);
          }
          EXPECT_NEAR(first.row(s)[j], sum, 8 * eps * magnitude);
        }
        for (int64_t s = 0; s < kMaxSecond; ++s) {
          double sum = 0, magnitude = 0;
          for (size_t i = 0; i < index.size() && s < seconds; ++i) {
            const double number = psi.row(index[i])[j];
            const double product =
                static_cast<double>(b[static_cast<size_t>(s * kBlock) + i]) * number * number;
            sum += product;
            magnitude += std::abs(product);
          }
          EXPECT_NEAR(second.row(s)[j], sum, 9 * eps * magnitude);
        }
      }
    }
  }
}

TEST_P(KernelsTest, RowsInSinglePrecision) { check_rows<float>(kernels); }
TEST_P(KernelsTest, RowsInDoublePrecision) { check_rows<double>(kernels); }

INSTANTIATE_TEST_SUITE_P(Levels, KernelsTest, ::testing::ValuesIn(levels()), [](const auto& level) {
  std::string name = level.param->name;
  name.erase(std::remove(name.begin(), name.end(), '-'), name.end());
  return name;
});

// Levels that fuse a product with the addition agree to the last bit: a sweep may go on on another
// machine.
TEST(Kernels, FusingLevelsAgreeBitForBit) {
  const auto all = levels();
  if (all.size() < 3) {
    GTEST_SKIP() << "needs a processor of level x86-64-v4";
  }
  constexpr int64_t kCount = 1024;
  const auto psi = normal_rows<float>(30, 1001);
  std::vector<int32_t> index(30);
  std::iota(index.begin(), index.end(), 0);
  std::vector<double> products[2];
  Rows<float> numbers[2] = {Rows<float>(1, kCount), Rows<float>(1, kCount)};
  for (size_t level = 0; level < 2; ++level) {
    all[level]->normals(4, 1, 2, kCount, numbers[level].data());
    products[level].resize(30);
    all[level]->single.dots(psi.data(), psi.stride(), index.data(), 30, psi.row(3),
                            products[level].data());
  }
  EXPECT_EQ(std::memcmp(numbers[0].data(), numbers[1].data(), kCount * sizeof(float)), 0);
  EXPECT_EQ(products[0], products[1]);
}

}  // namespace
}  // namespace gradist::rf
