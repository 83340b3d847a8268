#pragma once

#include "rf/rows.h"

#include <cstdint>
#include <string>
#include <vector>

namespace gradist::rf {

/// f(z, y) of the readout z = <w, phi> + b and the label y in {-1, +1}:
/// log(1 + exp(-y z)), or (z - y)^2 / 2.
enum class Loss { kCrossEntropy, kSquared };

const std::vector<std::string>& loss_names();
Loss loss_by_name(const std::string& name);

double loss_value(Loss loss, double z, double y);

/// r = df/dz: -y / (1 + exp(y z)), or z - y.
double residual(Loss loss, double z, double y);

/// A readout of fixed features to train and to measure: N examples, h features, P = h + 1.
///
/// The gradient of example i is g_i = r_i psi_i with psi_i = [phi_i; 1], so norms, inner products
/// and sums over any examples cost O(N h) for all of them. Two logits with the softmax are the same
/// problem in w = w_1 - w_0: the two rows of g_i are r_i psi_i and -r_i psi_i.
template <class T>
struct Problem {
  const Rows<T>* psi = nullptr;  ///< rows [phi; 1; 0 ...], at least as many as `index` names
  std::vector<int32_t> index;    ///< [N], the row of each example: copies share one
  std::vector<double> labels;    ///< [N], -1 or +1
  Loss loss = Loss::kCrossEntropy;

  int64_t examples() const { return static_cast<int64_t>(index.size()); }  ///< N
  int64_t parameters() const { return psi->width(); }                      ///< P
};

/// What a readout does on a set of examples.
struct Readings {
  std::vector<double> residuals;  ///< [N]
  double mean_loss = 0;
  double error = 0;  ///< fraction with y z <= 0
};

/// Reads the whole set with the readout w (one padded row of psi's stride).
template <class T>
Readings read_out(const Problem<T>& problem, const T* w);

/// ||psi_i||^2, [N].
template <class T>
std::vector<double> squared_row_norms(const Problem<T>& problem);

}  // namespace gradist::rf
