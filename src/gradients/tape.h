#pragma once

#include "gradients/gradient_batch.h"

#include <functional>
#include <memory>
#include <optional>
#include <vector>

namespace gradist {

/// Records one forward and backward pass so that the gradient of every single example is known in
/// factors.
///
/// A model calls the tape for the layers of the rule table (`linear`) instead of the plain
/// operation. The layer's output gets a tensor hook that keeps its backprops, and its weights are
/// detached, so that autograd never forms the summed weight gradient. Parameters the tape did not
/// see are measured by the exact fallback, one example at a time, and named in
/// `GradientBatch::parameters[l].method()`. Dimension 0 of every recorded input is the batch. A
/// tape serves one pass.
///
///   Tape tape;
///   auto hidden = at::relu(tape.linear(x, weight, bias));
///   auto losses = loss(tape.linear(hidden, weight2, bias2), y);          // [B]
///   GradientBatch batch = tape.backward(losses, parameters);
class Tape {
 public:
  Tape();
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// y = x W^T + b for x [B, I] or [B, ..., I], W [O, I], b [O] (may be undefined). Weights may be
  /// used again (tied). A weight or bias computed from parameters (a transpose, a mask) is left to
  /// autograd, and its parameters to the fallback.
  at::Tensor linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias);

  /// The loss [] or [1] of example i alone, from a plain forward pass (no tape): what the fallback
  /// differentiates.
  using LossOfExample = std::function<at::Tensor(int64_t)>;

  /// Differentiates losses.sum() for losses [B] and returns all per-example gradients of
  /// `parameters`. A parameter (also) used outside the table needs `loss_of_example`; without it
  /// that is an error that names the parameter by position.
  GradientBatch backward(const at::Tensor& losses, const ParameterList& parameters,
                         const LossOfExample& loss_of_example = nullptr);

 private:
  struct Record;
  static void add_record(const Record& record, const at::Tensor& parameter,
                         std::optional<FactoredGradients>& gradients);

  /// A detached copy of the bias that wants a gradient itself, so that autograd reaches the layer
  /// whatever its input is.
  at::Tensor anchored_bias(const at::Tensor& weight, const at::Tensor& bias);

  std::vector<std::shared_ptr<Record>> records_;
  std::vector<at::Tensor> anchors_;
};

/// The linear layer of a model that may or may not be measured: through the tape, or plain when
/// `tape` is null.
at::Tensor linear(Tape* tape, const at::Tensor& input, const at::Tensor& weight,
                  const at::Tensor& bias);

}  // namespace gradist
