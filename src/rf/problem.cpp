#include "rf/problem.h"

#include "choice.h"
#include "rf/kernels.h"

#include <cmath>

namespace gradist::rf {

const std::vector<std::string>& loss_names() {
  static const std::vector<std::string> names = {"cross-entropy", "squared"};
  return names;
}

Loss loss_by_name(const std::string& name) {
  return choice_by_name<Loss>("loss", loss_names(), name);
}

double loss_value(Loss loss, double z, double y) {
  if (loss == Loss::kSquared) {
    return (z - y) * (z - y) / 2;
  }
  // log(1 + exp(-m)) without overflow.
  const double margin = y * z;
  return std::max(-margin, 0.0) + std::log1p(std::exp(-std::abs(margin)));
}

double residual(Loss loss, double z, double y) {
  return loss == Loss::kSquared ? z - y : -y / (1 + std::exp(y * z));
}

template <class T>
Readings read_out(const Problem<T>& problem, const T* w) {
  Readings readings;
  const auto& rows = detail::row_kernels<T>(detail::kernels());
  const int64_t n = problem.examples();
  readings.residuals.resize(problem.index.size());
  rows.dots(problem.psi->data(), problem.psi->stride(), problem.index.data(), n, w,
            readings.residuals.data());
  double wrong = 0;
  for (size_t i = 0; i < problem.index.size(); ++i) {
    const double z = readings.residuals[i];
    const double y = problem.labels[i];
    readings.mean_loss += loss_value(problem.loss, z, y);
    wrong += y * z <= 0 ? 1 : 0;
    readings.residuals[i] = residual(problem.loss, z, y);
  }
  readings.mean_loss /= static_cast<double>(n);
  readings.error = wrong / static_cast<double>(n);
  return readings;
}

template <class T>
std::vector<double> squared_row_norms(const Problem<T>& problem) {
  std::vector<double> norms(problem.index.size());
  const auto& rows = detail::row_kernels<T>(detail::kernels());
  for (size_t i = 0; i < norms.size(); ++i) {
    rows.dots(problem.psi->data(), problem.psi->stride(), &problem.index[i], 1,
              problem.psi->row(problem.index[i]), &norms[i]);
  }
  return norms;
}

template Readings read_out(const Problem<float>& problem, const float* w);
template Readings read_out(const Problem<double>& problem, const double* w);
template std::vector<double> squared_row_norms(const Problem<float>& problem);
template std::vector<double> squared_row_norms(const Problem<double>& problem);

}  // namespace gradist::rf
