#include "estimators/interval.h"

#include <boost/math/distributions/students_t.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace gradist {

double jackknife_variance(const at::Tensor& squared_deviations) {
  const auto n = static_cast<double>(squared_deviations.numel());
  if (n < 3) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const auto spread =
      (squared_deviations - squared_deviations.mean()).square().sum().item<double>();
  return n / ((n - 1) * (n - 2) * (n - 2)) * spread;
}

Interval log_interval(double value, double variance_of_value, double degrees) {
  if (!(value > 0)) {
    return {value, value};
  }
  const boost::math::students_t distribution(std::max(1.0, degrees));
  const auto width =
      boost::math::quantile(distribution, 0.975) * std::sqrt(variance_of_value) / value;
  return {value * std::exp(-width), value * std::exp(width)};
}

}  // namespace gradist
