#include "rf/closed_form_moments.h"

#include "rf/kernels.h"

#include <Eigen/Core>

#include <algorithm>
#include <functional>

namespace gradist::rf {

namespace {

using Numbers = Eigen::ArrayXd;

/// One pass over the rows for any number of sums sum_i a_i psi_i and sum_i b_i psi_i^2.
template <class T>
class SumPass {
 public:
  using Coefficients = std::vector<double>;

  explicit SumPass(const Problem<T>& problem) : problem_(problem) {}

  /// Asks for a sum; returns its number.
  size_t first(Coefficients a) { return add(first_, std::move(a)); }
  size_t second(Coefficients b) { return add(second_, std::move(b)); }

  void run() {
    using detail::kBlock;
    first_sums_ = Rows<double>(static_cast<int64_t>(first_.size()), problem_.psi->stride());
    second_sums_ = Rows<double>(static_cast<int64_t>(second_.size()), problem_.psi->stride());
    std::vector<T> a(first_.size() * kBlock);
    std::vector<T> b(second_.size() * kBlock);
    for (int64_t begin = 0; begin < problem_.examples(); begin += kBlock) {
      const int64_t n = std::min(kBlock, problem_.examples() - begin);
      gather(first_, begin, n, a);
      gather(second_, begin, n, b);
      accumulate(begin, n, a, b);
    }
  }

  Numbers first_sum(size_t s) const { return sum(first_sums_, s); }
  Numbers second_sum(size_t s) const { return sum(second_sums_, s); }

 private:
  static size_t add(std::vector<Coefficients>& all, Coefficients one) {
    all.push_back(std::move(one));
    return all.size() - 1;
  }

  static void gather(const std::vector<Coefficients>& all, int64_t begin, int64_t n,
                     std::vector<T>& block) {
    for (size_t s = 0; s < all.size(); ++s) {
      const auto from = all[s].begin() + begin;
      std::copy(from, from + n, block.begin() + static_cast<int64_t>(s) * detail::kBlock);
    }
  }

  /// As many sums at a time as a kernel takes.
  void accumulate(int64_t begin, int64_t n, const std::vector<T>& a, const std::vector<T>& b) {
    const auto& kernel = detail::row_kernels<T>(detail::kernels());
    const auto firsts = static_cast<int64_t>(first_.size());
    const auto seconds = static_cast<int64_t>(second_.size());
    for (int64_t f = 0, s = 0; f < firsts || s < seconds;) {
      // A kernel has one sum of the first kind at least; beyond the last, that goes to waste.
      const int64_t take_f = std::clamp<int64_t>(firsts - f, 0, detail::kMaxFirst);
      const int64_t take_s = std::clamp<int64_t>(seconds - s, 0, detail::kMaxSecond);
      const int64_t from_f = take_f > 0 ? f : 0;
      double* first = take_f > 0 ? first_sums_.row(f) : waste();
      kernel.accumulate(problem_.psi->data(), problem_.psi->stride(), problem_.index.data() + begin,
                        n, std::max<int64_t>(take_f, 1), a.data() + from_f * detail::kBlock, first,
                        take_s, b.data() + s * detail::kBlock,
                        take_s > 0 ? second_sums_.row(s) : nullptr);
      f += take_f;
      s += take_s;
    }
  }

  double* waste() {
    if (waste_.count() == 0) {
      waste_ = Rows<double>(1, problem_.psi->stride());
    }
    return waste_.data();
  }

  Numbers sum(const Rows<double>& sums, size_t s) const {
    return Eigen::Map<const Numbers>(sums.row(static_cast<int64_t>(s)), problem_.parameters());
  }

  const Problem<T>& problem_;
  std::vector<Coefficients> first_, second_;
  Rows<double> first_sums_, second_sums_, waste_;
};

template <class Function>
std::vector<double> for_each_example(size_t n, const Function& function) {
  std::vector<double> values(n);
  for (size_t i = 0; i < n; ++i) {
    values[i] = function(i);
  }
  return values;
}

double square(double x) { return x * x; }

/// sum_k (sum_{i in k} g_ij)^2.
template <class T>
Numbers squared_cluster_sums(const Problem<T>& problem, const std::vector<double>& residuals,
                             const Partition& clusters) {
  const auto sums = cluster_sums(problem, residuals, clusters.assignments,
                                 static_cast<int64_t>(clusters.sizes.size()));
  Numbers total = Numbers::Zero(problem.parameters());
  for (int64_t k = 0; k < sums.count(); ++k) {
    total += Eigen::Map<const Numbers>(sums.row(k), problem.parameters()).square();
  }
  return total;
}

/// Asks the pass for the sums an estimator needs; the result, called after the pass, gives the
/// variance per coordinate.
template <class T>
class Variances {
 public:
  Variances(const Problem<T>& problem, const std::vector<double>& residuals, SumPass<T>& pass)
      : problem_(problem),
        r_(residuals),
        n_(static_cast<double>(problem.examples())),
        pass_(pass),
        gradient_(pass.first(residuals)) {}

  Numbers squared_gradient() const { return (pass_.first_sum(gradient_) / n_).square(); }

  std::function<Numbers()> of(const EstimatorState& state, int64_t batch_size) {
    const auto draws = static_cast<double>(batch_size);
    switch (state.kind) {
      case EstimatorKind::kSgB:
        return uniform(draws);
      case EstimatorKind::kSg2B:
        return uniform(2 * draws);
      case EstimatorKind::kSvrg:
        return svrg(state.snapshot_residuals, draws);
      case EstimatorKind::kSgImportance:
        return importance(state.probabilities, draws);
      case EstimatorKind::kGc:
      case EstimatorKind::kGcDescent:
        return stratified(state.clusters);
    }
    return {};
  }

 private:
  std::function<Numbers()> uniform(double draws) {
    if (!squares_) {
      squares_ = pass_.second(weighted([](size_t) { return 1.0; }));
    }
    return [this, draws]() -> Numbers {
      return (pass_.second_sum(*squares_) / n_ - squared_gradient()) / draws;
    };
  }

  std::function<Numbers()> svrg(const std::vector<double>& snapshot, double draws) {
    const auto difference = [&](size_t i) { return r_[i] - snapshot[i]; };
    const size_t mean = pass_.first(for_each_example(r_.size(), difference));
    const size_t squares =
        pass_.second(for_each_example(r_.size(), [&](size_t i) { return square(difference(i)); }));
    return [this, mean, squares, draws]() -> Numbers {
      return (pass_.second_sum(squares) / n_ - (pass_.first_sum(mean) / n_).square()) / draws;
    };
  }

  std::function<Numbers()> importance(const std::vector<double>& p, double draws) {
    const size_t squares = pass_.second(weighted([&](size_t i) { return 1 / p[i]; }));
    return [this, squares, draws]() -> Numbers {
      return (pass_.second_sum(squares) / (n_ * n_) - squared_gradient()) / draws;
    };
  }

  std::function<Numbers()> stratified(const Partition& clusters) {
    const size_t squares = pass_.second(weighted([&](size_t i) {
      return static_cast<double>(clusters.sizes[static_cast<size_t>(clusters.assignments[i])]);
    }));
    return [this, squares, &clusters]() -> Numbers {
      return (pass_.second_sum(squares) - squared_cluster_sums(problem_, r_, clusters)) / (n_ * n_);
    };
  }

  /// weight_i r_i^2.
  template <class Weight>
  std::vector<double> weighted(const Weight& weight) const {
    return for_each_example(r_.size(), [&](size_t i) { return square(r_[i]) * weight(i); });
  }

  const Problem<T>& problem_;
  const std::vector<double>& r_;
  double n_;
  SumPass<T>& pass_;
  size_t gradient_;
  std::optional<size_t> squares_;
};

double ratio(double numerator, double denominator) {
  return denominator > 0 ? numerator / denominator : kUndefined;
}

}  // namespace

Moments moments_of_coordinates(const std::vector<double>& variance,
                               const std::vector<double>& squared_gradient, int64_t logits,
                               std::optional<double> signal) {
  const auto count = static_cast<Eigen::Index>(variance.size());
  const auto copies = static_cast<double>(logits);
  const Numbers v = Eigen::Map<const Numbers>(variance.data(), count).max(0);
  const Numbers s = Eigen::Map<const Numbers>(squared_gradient.data(), count).max(0);
  const Numbers second = v + s;
  const double gradient = signal.value_or(s.sum());
  Moments moments;
  moments.trace_covariance = copies * v.sum();
  moments.average_variance = v.mean();
  moments.mean_squared_norm = copies * (v.sum() + gradient);
  moments.noise_ratio = ratio(v.sum(), v.sum() + gradient);
  moments.noise_to_signal = ratio(v.sum(), gradient);
  moments.mse = moments.trace_covariance;
  const auto defined = (second > 0).count();
  moments.normalized_variance =
      ratio((second > 0).select(v / second, 0).sum(), static_cast<double>(defined));
  moments.zero_coordinates = logits * (count - defined);
  moments.layer_average_variance = {v.head(count - 1).mean(), v[count - 1]};
  return moments;
}

template <class T>
std::vector<Moments> exact_moments(const Problem<T>& problem, const std::vector<double>& residuals,
                                   const std::vector<EstimatorState>& states,
                                   const DrawOptions& options) {
  SumPass<T> pass(problem);
  Variances<T> variances(problem, residuals, pass);
  std::vector<std::function<Numbers()>> asked;
  for (const auto& state : states) {
    asked.push_back(variances.of(state, options.batch_size));
  }
  pass.run();
  const Numbers squared = variances.squared_gradient();
  const std::vector<double> squared_gradient(squared.begin(), squared.end());
  std::vector<Moments> moments;
  for (const auto& variance : asked) {
    const Numbers v = variance();
    moments.push_back(
        moments_of_coordinates({v.begin(), v.end()}, squared_gradient, options.logits));
    moments.back().gradient_evaluations = problem.examples();
  }
  return moments;
}

template std::vector<Moments> exact_moments(const Problem<float>&, const std::vector<double>&,
                                            const std::vector<EstimatorState>&, const DrawOptions&);
template std::vector<Moments> exact_moments(const Problem<double>&, const std::vector<double>&,
                                            const std::vector<EstimatorState>&, const DrawOptions&);

}  // namespace gradist::rf
