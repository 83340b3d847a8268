#pragma once

#include "gradients/gradient_batch.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

namespace gradist::test {

/// The largest |x|, 0 for an empty tensor, in float64.
inline double largest(const at::Tensor& x) {
  return x.numel() == 0 ? 0.0 : x.to(at::kDouble).abs().max().item<double>();
}

/// Same shape and max |actual - expected| <= tolerance * scale, in float64; the scale is the
/// largest |expected| unless given. Results that come from cancelling terms name the scale of those
/// terms. A NaN anywhere is a failure.
inline ::testing::AssertionResult tensor_near(const at::Tensor& actual, const at::Tensor& expected,
                                              double tolerance, double scale = -1) {
  if (actual.sizes() != expected.sizes()) {
    return ::testing::AssertionFailure()
           << "shape " << actual.sizes() << ", expected " << expected.sizes();
  }
  const double error = largest(actual.to(at::kDouble) - expected.to(at::kDouble));
  const double bound = tolerance * (scale < 0 ? largest(expected) : scale);
  if (error <= bound) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "off by " << error << ", allowed " << bound;
}

/// |actual - expected| <= tolerance * scale; the scale is |expected| unless given. A NaN is a
/// failure.
inline ::testing::AssertionResult near(double actual, double expected, double tolerance,
                                       double scale = -1) {
  const double bound = tolerance * (scale < 0 ? std::abs(expected) : scale);
  if (std::abs(actual - expected) <= bound) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << actual << ", expected " << expected << " within " << bound;
}

/// Equal bit for bit, so that -0 and 0 differ and equal NaNs do not.
inline bool same_bits(const at::Tensor& x, const at::Tensor& y) {
  if (x.sizes() != y.sizes() || x.scalar_type() != y.scalar_type()) return false;
  const auto bytes = [](const at::Tensor& t) {
    return t.detach().contiguous().view({-1}).view(at::kByte);
  };
  return at::equal(bytes(x), bytes(y));
}

inline bool same_bits(const ParameterList& x, const ParameterList& y) {
  if (x.size() != y.size()) return false;
  for (size_t l = 0; l < x.size(); ++l) {
    if (!same_bits(x[l], y[l])) return false;
  }
  return true;
}

}  // namespace gradist::test
