#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace gradist {

/// The loss f_i of one example, from the network's outputs y_i [C] (logits or numbers) and the
/// target t_i.
enum class Loss {
  /// -sum_c q_c log softmax(y)_c for a class t in 0..C-1, q the one-hot vector of t, or with label
  /// smoothing s
  /// q_c = (1 - s) [c = t] + s / C. [Szegedy16]
  kCrossEntropy,
  /// (1/2) sum_c (y_c - t_c)^2; for a class, t is its one-hot vector.
  kHalfSquaredError,
};

/// f_i of every example, [B], for outputs [B, C] and targets [B] (int64 classes or numbers, then C
/// = 1). Never averaged.
at::Tensor example_losses(Loss loss, const at::Tensor& outputs, const at::Tensor& targets,
                          double label_smoothing = 0);

/// How many of the classes [B] are where their outputs [B, C] are largest.
int64_t count_correct(const at::Tensor& outputs, const at::Tensor& targets);

}  // namespace gradist
