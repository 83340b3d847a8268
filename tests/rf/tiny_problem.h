#pragma once

#include "rf/clustering.h"
#include "rf/philox.h"
#include "rf/problem.h"

#include <cstdint>
#include <numeric>
#include <vector>

/// A problem small enough that all its gradients can be written down, in float64.
namespace gradist::rf::test {

using Vector = std::vector<double>;

inline double dot(const Vector& a, const Vector& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

inline double squared_norm(const Vector& v) { return dot(v, v); }

/// N examples of h uniform features and random labels at a random readout. `with_copy`: the last
/// example is a copy of the first one, label and all.
class TinyProblem {
 public:
  TinyProblem(int64_t n, int64_t h, uint64_t seed, Loss loss = Loss::kCrossEntropy,
              bool with_copy = false)
      : psi_(n, h + 1), readout_(1, h + 1) {
    Words random(Philox(seed, Stream::kInputs), 0);
    const auto fill = [&random, h](double* row) {
      for (int64_t j = 0; j < h; ++j) {
        row[j] = 2 * random.uniform() - 1;
      }
      row[h] = 1;
    };
    for (int64_t i = 0; i < n; ++i) {
      fill(psi_.row(i));
      problem.index.push_back(static_cast<int32_t>(i));
      problem.labels.push_back(random.uniform() < 0.5 ? -1 : 1);
    }
    if (with_copy) {
      problem.index.back() = 0;
      problem.labels.back() = problem.labels.front();
    }
    fill(readout_.data());
    problem.psi = &psi_;
    problem.loss = loss;
    residuals = read_out(problem, readout_.data()).residuals;
    row_norms = squared_row_norms(problem);
  }
  TinyProblem(const TinyProblem&) = delete;
  TinyProblem& operator=(const TinyProblem&) = delete;

  int64_t examples() const { return problem.examples(); }
  RankOneGradients<double> gradients() const { return {problem, residuals, row_norms}; }
  const double* readout() const { return readout_.data(); }

  /// psi_i, written down.
  Vector row(int64_t i) const {
    const double* numbers = psi_.row(problem.index[static_cast<size_t>(i)]);
    return {numbers, numbers + problem.parameters()};
  }

  /// c psi_i for any coefficient; g_i for the residual.
  Vector scaled_row(int64_t i, double c) const {
    Vector scaled = row(i);
    for (double& number : scaled) {
      number *= c;
    }
    return scaled;
  }
  Vector gradient(int64_t i) const { return scaled_row(i, residuals[static_cast<size_t>(i)]); }

  Problem<double> problem;
  Vector residuals;  ///< r_i at the readout, [N]
  Vector row_norms;  ///< ||psi_i||^2, [N]

 private:
  Rows<double> psi_, readout_;
};

}  // namespace gradist::rf::test
