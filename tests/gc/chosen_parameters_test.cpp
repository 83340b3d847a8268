// A descent that compares some parameters is the descent of a problem that has no others; J and the
// guard are of all.

#include "gc/descent.h"
#include "support/factors.h"
#include "support/oracles.h"
#include "support/tensor_near.h"
#include "support/threads.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace gradist {
namespace {

using test::generator_of;
using test::near;

TEST(ChosenParameters, GiveTheDescentOfASourceThatHasNoOthers) {
  const test::Threads one(1);
  for (const int64_t examples : {60, 4200}) {  // all inner products, and sketches
    const auto all = at::arange(examples, at::kLong);
    auto source = test::source_of_kinds(all.remainder(4), 4, 0.3, 30, 20);
    GradientBatch some = source.gradients(all);
    some.parameters.erase(some.parameters.begin() + 1);
    test::FactoredSource part(some);
    DescentOptions options{.clusters = 8, .sweeps = 4};
    auto alone = generator_of(3), chosen = generator_of(3), whole = generator_of(3);
    const auto expected = descent(part, options, nullptr, alone);
    const auto of_all = descent(source, options, nullptr, whole);
    options.parameters = {"!factors1"};
    const auto clustering = descent(source, options, nullptr, chosen);
    EXPECT_EQ(clustering.history, expected.history) << examples << " examples";
    EXPECT_NE(clustering.history, of_all.history) << "the parameter left out matters";
    EXPECT_TRUE(at::equal(clustering.assignments(), expected.assignments()));
    EXPECT_TRUE(near(clustering.objective,
                     test::dense_objective(source.oracle(), clustering.assignments(), 8), 1e-10));
  }
}

}  // namespace
}  // namespace gradist
