// The whole of a descent by numbers of threads, on networks whose gradients come from the tape.

#include "support/threads.h"
#include "gc/descent.h"
#include "support/problems.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

#include <string>

namespace gradist {
namespace {

using test::generator_of;
using test::normal;

/// More examples than all inner products are formed of: the descent sees sketches.
constexpr int64_t kExamples = 5'000;

constexpr int64_t kClasses = 10;

at::Tensor cross_entropy(const at::Tensor& outputs, const at::Tensor& labels) {
  return -outputs.log_softmax(1).gather(1, labels.unsqueeze(1)).squeeze(1);
}

at::Tensor weight(std::vector<int64_t> sizes, uint64_t seed) {
  return normal(std::move(sizes), seed, at::kFloat) * 0.2;
}

at::Tensor labels() { return at::arange(kExamples, at::kLong).remainder(kClasses); }

/// Layers wider than a sketch.
test::TinySource mlp() {
  const auto losses = [](Tape* tape, const ParameterList& p, const at::Tensor& x,
                         const at::Tensor& y) {
    return cross_entropy(linear(tape, linear(tape, x, p[0], p[1]).relu(), p[2], p[3]), y);
  };
  return {{weight({50, 40}, 1), weight({50}, 2), weight({kClasses, 50}, 3), weight({kClasses}, 4)},
          normal({kExamples, 40}, 5, at::kFloat),
          labels(),
          losses};
}

test::TinySource cnn() {
  const auto losses = [](Tape* tape, const ParameterList& p, const at::Tensor& x,
                         const at::Tensor& y) {
    const auto plain = [&] { return at::conv2d(x, p[0], p[1]); };
    const rules::Convolution geometry{
        .stride = {1, 1}, .padding = {0, 0}, .dilation = {1, 1}, .output_padding = {0, 0}};
    const auto hidden = tape == nullptr
                            ? plain()
                            : tape->record(rules::convolution(x, p[0], p[1], geometry), plain);
    return cross_entropy(linear(tape, hidden.relu().flatten(1), p[2], p[3]), y);
  };
  return {{weight({6, 3, 3, 3}, 6), weight({6}, 7), weight({kClasses, 6 * 36}, 8),
           weight({kClasses}, 9)},
          normal({kExamples, 3, 8, 8}, 10, at::kFloat),
          labels(),
          losses};
}

Clustering clustered(GradientSource& source, int threads) {
  const test::Threads count(threads);
  auto generator = generator_of(11);
  return descent(source, {.clusters = 64, .sweeps = 5}, nullptr, generator);
}

// Bit for bit: pass, sketches and moves.
void expect_the_same(GradientSource& source) {
  const auto one = clustered(source, 1);
  ASSERT_GE(one.history.size(), 3U);
  for (const int threads : {2, 3}) {
    const auto more = clustered(source, threads);
    EXPECT_TRUE(at::equal(more.assignments(), one.assignments())) << threads << " threads";
    EXPECT_EQ(more.history, one.history) << threads << " threads";
    EXPECT_TRUE(test::near(more.objective, one.objective, 1e-12)) << threads << " threads";
  }
}

TEST(Threads, DoNotChangeTheDescentOfAnMlp) {
  auto source = mlp();
  expect_the_same(source);
}

TEST(Threads, DoNotChangeTheDescentOfAConvolutionalNetwork) {
  auto source = cnn();
  expect_the_same(source);
}

}  // namespace
}  // namespace gradist
