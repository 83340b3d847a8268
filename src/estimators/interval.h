#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace gradist {

/// A 95 % interval of a positive quantity.
struct Interval {
  double low = 0;
  double high = 0;
};

/// Delete-one jackknife variance of the sample variance s^2 = sum_i q_i / (n - 1), q_i = ||x_i -
/// mean||^2 for i = 1 .. n: n / ((n - 1) (n - 2)^2) sum_i (q_i - mean q)^2. Not defined below n = 3
/// (NaN).
double jackknife_variance(const at::Tensor& squared_deviations);

/// exp(log v +- t se / v): the normal interval of log v, which respects v > 0 and leans to the
/// right as the distribution of a variance does. t is Student's quantile for `degrees` degrees of
/// freedom.
Interval log_interval(double value, double variance_of_value, double degrees);

/// 95 % interval of the quotient of two variances, s_x^2 / s_y^2, seen through the same n members
/// x_i and y_i, given their q_i = ||x_i - mean x||^2 and ||y_i - mean y||^2, [n] each. What the two
/// have in common cancels: the delete-one jackknife of log(s_x^2 / s_y^2), linearised, has the q_i
/// / s_x^2
/// - q_i / s_y^2 where that of a variance has q_i. `unseen` as below. [Efron81]
Interval ratio_interval(double ratio, const at::Tensor& above, const at::Tensor& below,
                        double unseen = 1);

/// One stratum's part w_k s_k^2 of a variance estimate v = sum_k w_k s_k^2, seen through n_k >= 3
/// of its N_k members.
struct StratumSpread {
  at::Tensor squared_deviations;  ///< q_i = ||x_i - mean||^2, [n_k] float64
  double weight = 0;              ///< w_k
  double unseen = 1;  ///< 1 - n_k / N_k: what a finite population leaves of the variance of s_k^2
};

/// Bootstrap-t interval of log v, [Efron93] section 12.5: exp(log v - t se / v)
/// with the quantiles of t* = log(v* / v) / (se* / v*) over 399 resamples of the q_i within strata.
/// A sample of a heavy tail that misses the largest examples has v and se too small together; t*
/// leans to the left then, and the interval reaches further up. Neither side is shorter than
/// log_interval's, with Satterthwaite's degrees of freedom, which a handful of examples needs. The
/// generator has a fixed seed: same sample, same interval. 399 sum_k n_k operations.
Interval bootstrap_interval(double value, const std::vector<StratumSpread>& strata);

}  // namespace gradist
