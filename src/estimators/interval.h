#pragma once

#include <ATen/core/Tensor.h>

namespace gradist {

/// A 95 % interval of a positive quantity.
struct Interval {
  double low = 0;
  double high = 0;
};

/// Delete-one jackknife variance of the sample variance s^2 = sum_i q_i / (n - 1), q_i = ||x_i - mean||^2 for i = 1 .. n:
/// n / ((n - 1) (n - 2)^2) sum_i (q_i - mean q)^2. Not defined below n = 3 (NaN).
double jackknife_variance(const at::Tensor& squared_deviations);

/// exp(log v +- t se / v): the normal interval of log v, which respects v > 0 and leans to the right as the distribution of a
/// variance does. t is Student's quantile for `degrees` degrees of freedom.
Interval log_interval(double value, double variance_of_value, double degrees);

}  // namespace gradist
