#include "gradients/amx_work.h"

#include "support/problems.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

namespace gradist {
namespace {

using detail::AmxProducts;
using detail::AmxQueue;
using detail::AmxResult;
using detail::AmxSection;
using detail::AmxWork;

TEST(AmxQueue, GivesEveryNumberOnceFromBothEnds) {
  constexpr int64_t kNumbers = 100000;
  AmxQueue queue;
  queue.fill(0, kNumbers);
  std::vector<int> taken(kNumbers);
  const auto take = [&](bool first) {
    int64_t former = first ? -1 : kNumbers;
    for (int64_t i; (i = first ? queue.take_first() : queue.take_last()) >= 0; former = i) {
      EXPECT_TRUE(first ? i > former : i < former);
      ++taken[static_cast<size_t>(i)];
    }
  };
  std::thread front(take, true), back(take, false);
  front.join();
  back.join();
  EXPECT_EQ(taken, std::vector<int>(kNumbers, 1));
}

AmxProducts shape(int64_t rows, int64_t columns, int64_t examples, int64_t positions,
                  int64_t at_once) {
  AmxProducts products;
  products.rows.numbers = rows;
  products.columns.numbers = columns;
  products.examples = examples;
  products.positions = positions;
  products.positions_at_once = at_once;
  return products;
}

/// Shapes of one part and of several, of groups of rows and of columns, whole ones and not.
std::vector<AmxProducts> shapes() {
  return {shape(64, 64, 1, 32, 0),    shape(200, 100, 3, 70, 0),   shape(100, 300, 2, 33, 0),
          shape(20, 5000, 1, 64, 32), shape(70, 130, 1, 400, 100), shape(90, 70, 2, 2048, 0),
          shape(80, 700, 2, 2048, 0), shape(16, 16, 5, 16, 0)};
}

std::string described(const AmxProducts& products, int64_t threads) {
  std::ostringstream text;
  text << products.rows.numbers << " x " << products.columns.numbers << ", " << products.examples
       << " examples of " << products.positions << " positions, " << threads << " threads";
  return text.str();
}

/// Every product of every coordinate once, at one position after the other, whichever thread asks.
void expect_all_once(const AmxProducts& products, int64_t threads) {
  AmxWork work(products, {}, threads);
  std::map<std::pair<int64_t, int64_t>, int64_t> reached;  ///< products so far, by first coordinate
  int64_t coordinates = 0, asks = 0;
  for (int64_t step = 0; step < work.steps(); ++step) {
    for (int64_t group; (group = work.take(step, ++asks % threads)) >= 0;) {
      const auto part = work.part(step), taken = work.group(step, group);
      const auto& rows = work.by_rows ? taken : part;
      const auto& columns = work.by_rows ? part : taken;
      EXPECT_EQ(std::tie(rows.example, rows.position, rows.positions),
                std::tie(columns.example, columns.position, columns.positions));
      EXPECT_LE(rows.end - rows.begin, work.most_rows());
      EXPECT_LE(columns.end - columns.begin, work.most_columns());
      EXPECT_LE(rows.positions, work.most_positions());
      auto& products_there = reached[{rows.begin, columns.begin}];
      EXPECT_EQ(products_there, rows.example * products.positions + rows.position);
      EXPECT_EQ(work.is_first(step), products_there == 0);
      if (products_there == 0) {
        coordinates += (rows.end - rows.begin) * (columns.end - columns.begin);
      }
      products_there += rows.positions;
      work.wait(step, group);  // for nothing, in this order
      work.finish(step, group, 0);
    }
  }
  EXPECT_EQ(coordinates, products.rows.numbers * products.columns.numbers);
  for (const auto& [place, products_there] : reached) {
    EXPECT_EQ(products_there, products.examples * products.positions);
  }
  const auto tiles = ((products.rows.numbers + 15) / 16) * ((products.columns.numbers + 31) / 32);
  EXPECT_GE(static_cast<int64_t>(reached.size()), std::min(threads, tiles) / 2)
      << "there is not work for all";
}

TEST(AmxWork, IsAllProductsOnceAndInOrder) {
  for (const auto& products : shapes()) {
    for (const int64_t threads : {1, 2, 3, 16, 100}) {
      SCOPED_TRACE(described(products, threads));
      expect_all_once(products, threads);
    }
  }
}

using ThreadWork = std::function<void(int64_t thread)>;
using Runner = std::function<void(int64_t threads, const ThreadWork& work)>;

/// Threads one after the other, the last one first: it does all the others' work.
void backwards(int64_t threads, const ThreadWork& work) {
  for (auto thread = threads - 1; thread >= 0; --thread) {
    work(thread);
  }
}

/// Threads at once, of which the first comes late.
void one_late(int64_t threads, const ThreadWork& work) {
  std::vector<std::thread> running;
  for (int64_t thread = 0; thread < threads; ++thread) {
    running.emplace_back([&work, thread] {
      if (thread == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      work(thread);
    });
  }
  for (auto& each : running) {
    each.join();
  }
}

TEST(AmxWork, GivesTheSameBitsWhoeverDoesWhat) {
  if (!detail::has_amx()) {
    GTEST_SKIP() << "no AMX here";
  }
  for (auto products : shapes()) {
    const auto side = [&](detail::AmxSide& of, uint64_t seed) {
      const auto values =
          test::normal({products.examples, products.positions, of.numbers}, seed).to(at::kFloat);
      of.data = values.const_data_ptr<float>();
      of.example = values.stride(0);
      of.position = values.stride(1);
      of.number = 1;
      return values;
    };
    const auto rows = side(products.rows, 1), columns = side(products.columns, 2);
    const auto multiplied = [&](int64_t threads, const Runner& run) {
      const auto sum = at::full({products.rows.numbers, products.columns.numbers}, NAN, at::kFloat);
      const auto norms = at::full({products.examples}, NAN, at::kDouble);
      const auto row_sums = at::full({products.examples, products.rows.numbers}, NAN, at::kFloat);
      AmxResult result;
      result.sum = sum.data_ptr<float>();
      result.squared_norms = norms.data_ptr<double>();
      result.row_sums = products.positions_at_once == 0 ? row_sums.data_ptr<float>() : nullptr;
      AmxWork work(products, result, threads);
      run(threads, [&](int64_t thread) { detail::run_amx(work, thread); });
      work.add_squares();
      return std::vector<at::Tensor>{sum, norms, row_sums.nan_to_num()};
    };
    const auto exact = at::einsum("bsr,bsc->rc", {rows.to(at::kDouble), columns.to(at::kDouble)});
    for (const int64_t threads : {1, 2, 3, 5, 40}) {
      SCOPED_TRACE(described(products, threads));
      const auto in_turn = multiplied(threads, [](int64_t count, const ThreadWork& work) {
        for (int64_t thread = 0; thread < count; ++thread) {
          work(thread);
        }
      });
      EXPECT_TRUE(test::tensor_near(
          in_turn[0], exact, 1e-5,
          std::sqrt(static_cast<double>(products.examples * products.positions))));
      for (const Runner& run : {Runner(backwards), Runner(one_late)}) {
        const auto found = multiplied(threads, run);
        for (size_t i = 0; i < found.size(); ++i) {
          EXPECT_TRUE(test::same_bits(found[i], in_turn[i])) << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace gradist
