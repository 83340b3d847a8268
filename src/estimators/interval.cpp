#include "estimators/interval.h"

#include <ATen/TensorOperators.h>

#include <boost/math/distributions/students_t.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace gradist {
namespace {

constexpr int kResamples = 399;  // (399 + 1) x 2.5 % is whole: the quantiles are order statistics
constexpr int kTail = 10;
constexpr uint32_t kSeed = 20200620;
constexpr double kNoSpread = 1e-12;

/// Var[s^2] over sum_i (q_i - mean q)^2.
double jackknife_factor(double n) { return n / ((n - 1) * (n - 2) * (n - 2)); }

double student_quantile(double degrees) {
  return boost::math::quantile(boost::math::students_t(std::max(1.0, degrees)), 0.975);
}

/// A stratum as resampling wants it.
struct Resampled {
  std::vector<double> deviations;  ///< q_i - mean q
  double per_sum = 0;              ///< change of v for a change of sum_i q_i by one
  double per_scatter = 0;          ///< part of Var[v] for a scatter sum_i (q_i - mean q)^2 of one
  double shrink = 1;               ///< sqrt(unseen): v* then varies as v does
};

Resampled resampled(const StratumSpread& stratum) {
  const auto centered =
      (stratum.squared_deviations - stratum.squared_deviations.mean()).to(at::kDouble).contiguous();
  const auto* first = centered.const_data_ptr<double>();
  const auto n = static_cast<double>(centered.numel());
  return {{first, first + centered.numel()},
          stratum.weight / (n - 1),
          stratum.weight * stratum.weight * stratum.unseen * jackknife_factor(n),
          std::sqrt(stratum.unseen)};
}

/// t* of one resample of every stratum; NaN where the resample has no spread, which says nothing.
double resampled_t(double value, double variance, const std::vector<Resampled>& strata,
                   std::mt19937& generator) {
  double change = 0, resampled_variance = 0;
  for (const auto& stratum : strata) {
    const uint64_t n = stratum.deviations.size();
    double sum = 0, squares = 0;
    for (uint64_t i = 0; i < n; ++i) {
      const double deviation = stratum.deviations[(uint64_t{generator()} * n) >> 32];
      sum += deviation;
      squares += deviation * deviation;
    }
    change += stratum.shrink * stratum.per_sum * sum;
    resampled_variance += stratum.per_scatter * (squares - sum * sum / static_cast<double>(n));
  }
  const auto resampled = value + change;
  return resampled > 0 && resampled_variance > kNoSpread * variance
             ? std::log(resampled / value) * resampled / std::sqrt(resampled_variance)
             : std::numeric_limits<double>::quiet_NaN();
}

/// The 2.5 % and 97.5 % quantiles of t*; zeros where resamples without spread leave too few.
Interval bootstrap_quantiles(double value, double variance, const std::vector<Resampled>& strata) {
  std::mt19937 generator(kSeed);
  std::vector<double> t;
  for (int r = 0; r < kResamples; ++r) {
    const auto one = resampled_t(value, variance, strata, generator);
    if (std::isfinite(one)) {
      t.push_back(one);
    }
  }
  if (t.size() < 2 * kTail) {
    return {0, 0};
  }
  std::sort(t.begin(), t.end());
  return {t[kTail - 1], t[t.size() - kTail]};
}

}  // namespace

double jackknife_variance(const at::Tensor& squared_deviations) {
  const auto n = static_cast<double>(squared_deviations.numel());
  if (n < 3) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const auto spread =
      (squared_deviations - squared_deviations.mean()).square().sum().item<double>();
  return jackknife_factor(n) * spread;
}

Interval log_interval(double value, double variance_of_value, double degrees) {
  if (!(value > 0)) {
    return {value, value};
  }
  const auto width = student_quantile(degrees) * std::sqrt(variance_of_value) / value;
  return {value * std::exp(-width), value * std::exp(width)};
}

Interval ratio_interval(double ratio, const at::Tensor& above, const at::Tensor& below,
                        double unseen) {
  const auto degrees = static_cast<double>(above.numel() - 1);
  const auto variance = [degrees](const at::Tensor& q) { return q.sum().item<double>() / degrees; };
  const auto relative = above / variance(above) - below / variance(below);
  return log_interval(ratio, ratio * ratio * unseen * jackknife_variance(relative), degrees);
}

Interval bootstrap_interval(double value, const std::vector<StratumSpread>& strata) {
  std::vector<Resampled> prepared;
  double variance = 0, squares_over_degrees = 0;
  for (const auto& stratum : strata) {
    const auto added = stratum.weight * stratum.weight * stratum.unseen *
                       jackknife_variance(stratum.squared_deviations);
    variance += added;
    squares_over_degrees +=
        added * added / static_cast<double>(stratum.squared_deviations.numel() - 1);
    prepared.push_back(resampled(stratum));
  }
  if (!(value > 0 && variance > 0)) {
    return {value, value};
  }
  const auto student = student_quantile(variance * variance / squares_over_degrees);
  const auto t = bootstrap_quantiles(value, variance, prepared);
  const auto relative_error = std::sqrt(variance) / value;
  return {value * std::exp(-std::max(t.high, student) * relative_error),
          value * std::exp(std::max(-t.low, student) * relative_error)};
}

}  // namespace gradist
