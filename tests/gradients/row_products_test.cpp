#include "gradients/row_products.h"

#include "support/problems.h"
#include "support/property.h"
#include "support/tensor_near.h"

#include <ATen/ATen.h>

namespace gradist {
namespace {

using detail::row_products;
using test::any_between;
using test::normal;
using test::tensor_near;

::testing::AssertionResult agree(const at::Tensor& x, const at::Tensor& y) {
  const auto products = row_products(x, y);
  const auto value = x.to(at::kDouble), delta = value - y.to(at::kDouble);
  for (const auto& [actual, expected] : {std::pair{products.squared, value.square().sum(1)},
                                         std::pair{products.cross, (value * delta).sum(1)},
                                         std::pair{products.difference, delta.square().sum(1)}}) {
    if (actual.scalar_type() != at::kDouble) return ::testing::AssertionFailure() << "not float64";
    const double scale = test::largest(value.square().sum(1) + delta.square().sum(1));
    if (const auto result = tensor_near(actual, expected, 1e-14, scale); !result) return result;
  }
  return ::testing::AssertionSuccess();
}

// Widths around the eight lanes that are summed side by side; sums in float64 for every dtype.
RC_GTEST_PROP(RowProducts, AreThoseOfTheirDefinition, ()) {
  const auto rows = any_between(1, 5), width = any_between(1, 40);
  const auto seed = static_cast<uint64_t>(any_between(0, 1'000'000));
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const auto result =
        agree(normal({rows, width}, seed, dtype), normal({rows, width}, seed + 1, dtype));
    if (!result) RC_FAIL(result.message());
  }
}

TEST(RowProducts, TakeRowsThatAreNotContiguous) {
  EXPECT_TRUE(agree(normal({6, 30}, 1).t(), normal({30, 2, 6}, 2).select(1, 1)));
}

TEST(RowProducts, OfManyRowsAreThoseOfEach) {
  EXPECT_TRUE(agree(normal({700, 9}, 3, at::kFloat), normal({700, 9}, 4, at::kFloat)));
}

}  // namespace
}  // namespace gradist
