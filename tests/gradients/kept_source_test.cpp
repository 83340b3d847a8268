#include "gradients/kept_source.h"

#include "support/factors.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

#include <string>

namespace gradist {
namespace {

using test::same_bits;

void expect_same(const GradientBatch& a, const GradientBatch& b) {
  ASSERT_EQ(a.parameters.size(), b.parameters.size());
  for (size_t l = 0; l < a.parameters.size(); ++l) {
    EXPECT_TRUE(same_bits(a.parameters[l].dense(), b.parameters[l].dense()));
    EXPECT_EQ(a.parameters[l].shape(), b.parameters[l].shape());
    EXPECT_EQ(a.parameters[l].method(), b.parameters[l].method());
  }
  EXPECT_EQ(a.losses.defined(), b.losses.defined());
  if (a.losses.defined()) {
    EXPECT_TRUE(same_bits(a.losses, b.losses));
  }
}

class KeptProblems : public ::testing::TestWithParam<std::string> {};

// Every kind of factors: positions, formed ones, rows of an embedding, shared and unused
// parameters.
TEST_P(KeptProblems, AreWhatTheSourceGaveHoweverAskedForLater) {
  auto problem = test::make_problem(GetParam());
  auto& source = *problem.source;
  const auto all = at::arange(source.examples(), at::kLong);
  const auto given = source.gradients(all);
  KeptSource kept(source);
  expect_same(kept.gradients(all), given);
  EXPECT_EQ(kept.evaluations(), source.examples());
  expect_same(kept.gradients(all), given);
  const auto some = all.flip(0).slice(0, 0, std::min<int64_t>(3, source.examples()));
  const auto again = kept.gradients(some);
  for (int64_t i = 0; i < some.numel(); ++i) {
    const auto at = some[i].item<int64_t>();
    expect_same(again.slice(i, i + 1), given.slice(at, at + 1));
    expect_same(kept.gradients(some.slice(0, i, i + 1)), given.slice(at, at + 1));
  }
  EXPECT_EQ(kept.evaluations(), source.examples());
}

INSTANTIATE_TEST_SUITE_P(Problems, KeptProblems, ::testing::ValuesIn(test::problem_names()),
                         [](const auto& tested) { return tested.param; });

GradientBatch wide_factors(int64_t examples) {
  GradientBatch batch;
  const auto backprops = test::normal({examples, 1, 4}, 1);
  batch.parameters = {{test::normal({examples, 1, 8}, 2), backprops, {4, 8}, "linear"},
                      FactoredGradients::from_dense(backprops.select(1, 0), {4}, "bias")};
  return batch;
}

TEST(KeptSource, AsksOnlyForWhatItHasNotSeen) {
  test::FactoredSource source(wide_factors(10));
  KeptSource kept(source);
  const auto of = [](std::vector<int64_t> indices) { return at::tensor(indices, at::kLong); };
  const auto expect = [&](std::vector<int64_t> indices, int64_t evaluations) {
    expect_same(kept.gradients(of(indices)), source.gradients(of(indices)));
    EXPECT_EQ(kept.evaluations(), evaluations);
  };
  expect({7, 2, 4}, 3);
  expect({4, 7, 7}, 3);
  expect({2, 3, 4, 5}, 7);  // 3 is new, and all of a batch comes from one place
  expect({5, 4, 3, 2, 7}, 7);
  expect({0}, 8);  // alone, computed and not kept
  expect({0}, 9);
  expect({0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, 19);
  expect({9, 0, 8}, 19);
}

// 8 + 4 numbers of the weight's factors, of which the bias has one, a loss, and the bias' one 1.
TEST(KeptSource, KeepsSharedFactorsOnceAndNothingBeyondTheMemory) {
  constexpr int64_t kExamples = 10, kBytes = 8 * (kExamples * (8 + 4 + 1) + 1);
  class Sharing final : public test::TestSource {
   public:
    int64_t examples() const override { return kExamples; }
    GradientBatch gradients(const at::Tensor& indices) override {
      auto batch = all_.slice(indices[0].item<int64_t>(), indices[-1].item<int64_t>() + 1);
      batch.losses = at::zeros({indices.numel()}, at::kDouble);
      return batch;
    }
    ParameterList weighted_gradient(const at::Tensor&, const at::Tensor&) override { return {}; }
    at::Tensor oracle() const override { return {}; }

   private:
    GradientBatch all_ = wide_factors(kExamples);
  } source;
  const auto all = at::arange(kExamples, at::kLong);
  for (const auto& [memory, passes] : {std::pair{kBytes, 1}, {kBytes - 1, 3}}) {
    KeptSource kept(source, memory);
    for (int pass = 0; pass < 3; ++pass) {
      for (const auto& chunk : all.split(4)) {
        expect_same(kept.gradients(chunk), source.gradients(chunk));
      }
    }
    EXPECT_EQ(kept.evaluations(), passes * kExamples);
  }
}

// A factor that is one for all examples of a batch, and another for the next.
TEST(KeptSource, TrustsNoFactorThatOnlyLooksTheSameForAll) {
  class Shifting final : public test::TestSource {
   public:
    int64_t examples() const override { return 4; }
    GradientBatch gradients(const at::Tensor& indices) override {
      const auto value = at::full({1, 1, 3}, indices[0].item<double>(), at::kDouble);
      GradientBatch batch;
      batch.parameters = {{value.expand({indices.numel(), 1, 3}),
                           indices.to(at::kDouble).view({-1, 1, 1}) + 1,
                           {1, 3},
                           "linear"}};
      return batch;
    }
    ParameterList weighted_gradient(const at::Tensor&, const at::Tensor&) override { return {}; }
    at::Tensor oracle() const override { return {}; }
  } source;
  KeptSource kept(source);
  for (int pass = 0; pass < 2; ++pass) {
    for (const auto& chunk : at::arange(4, at::kLong).split(2)) {
      expect_same(kept.gradients(chunk), source.gradients(chunk));
    }
  }
  EXPECT_EQ(kept.evaluations(), 8);
}

}  // namespace
}  // namespace gradist
