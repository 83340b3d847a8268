#pragma once

#include "gradients/gradient_batch.h"
#include "gradients/layer_rules.h"
#include "gradients/method_choice.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace gradist {

/// Squared norms and sum of the per-example gradients of every parameter: what one pass gives at
/// about the price of a plain backward pass.
struct ReducedGradients {
  std::vector<NormsAndSum> parameters;  ///< L entries
  at::Tensor losses;                    ///< [B], f_i

  /// ||g_i||^2, [B] float64.
  at::Tensor squared_norms() const;

  /// Adds those of further examples of the same model.
  void append(const ReducedGradients& part);
};

/// Records one forward and backward pass so that the gradient of every single example is known in
/// factors.
///
/// A model calls the tape for the layers of the rule table (layer_rules.h) instead of the plain
/// operation. The layer's output gets a tensor hook that sees its backprops, and its weights are
/// detached, so that autograd never forms the summed weight gradient. A weight computed from
/// parameters (a slice, a weight norm) is measured as if it were one, and each example's gradient
/// pulled back to them. Parameters the tape did not see are measured by the exact fallback, one
/// example at a time, and named in `FactoredGradients::method()`. Dimension 0 of every recorded
/// input is the batch. A tape serves one pass.
///
///   Tape tape;
///   auto hidden = at::relu(tape.linear(x, weight, bias));
///   auto losses = loss(tape.linear(hidden, weight2, bias2), y);          // [B]
///   GradientBatch batch = tape.backward(losses, parameters);
class Tape {
 public:
  struct Options {
    int64_t examples = 0;      ///< B; 0: dimension 0 of the first recorded input
    bool reduce = false;       ///< norms and sums during the backward pass, layer by layer
    bool keep_factors = true;  ///< keep backprops for `factors`; false: freed once reduced
    std::shared_ptr<MethodChoices> choices;  ///< for `reduce`; null: fewest operations
    /// Outputs of linear layers, and what flows back from them, with the very bits of torch's own
    /// products; else `choices` may take others (LinearProducts).
    bool plain_outputs = true, plain_backprops = true;
  };

  Tape();
  explicit Tape(Options options);
  ~Tape();
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// Runs a layer of the rule table and records it. `plain` runs it unrecorded: where no gradient
  /// is wanted, where dimension 0 of the input is not the batch, and where autograd reaches the
  /// input but not through a recorded layer (then it may hold no examples at all).
  at::Tensor record(rules::Use use, const std::function<at::Tensor()>& plain,
                    bool sequence_first = false);

  /// y = x W^T + b for x [B, I] or [B, ..., I], W [O, I], b [O] (may be undefined).
  at::Tensor linear(const at::Tensor& input, const at::Tensor& weight, const at::Tensor& bias);

  /// The loss [] or [1] of example i alone, from a plain forward pass (no tape): what the fallback
  /// differentiates.
  using LossOfExample = std::function<at::Tensor(int64_t)>;

  /// Differentiates losses.sum() for losses [B] and returns all per-example gradients of
  /// `parameters`. A parameter (also) used outside the table needs `loss_of_example`; without it
  /// that is an error that names the parameter by position.
  GradientBatch backward(const at::Tensor& losses, const ParameterList& parameters,
                         const LossOfExample& loss_of_example = nullptr);

  /// The same for squared norms and sums only; needs Options::reduce.
  ReducedGradients backward_reduced(const at::Tensor& losses, const ParameterList& parameters,
                                    const LossOfExample& loss_of_example = nullptr);

  /// After a backward pass of the caller's: what the recorded uses say of each parameter; nothing
  /// for one without recorded use.
  std::vector<std::optional<FactoredGradients>> factors(const ParameterList& parameters) const;
  std::vector<std::optional<NormsAndSum>> norms_and_sums(const ParameterList& parameters) const;

  /// Whether gradients came to every recorded layer: false while a backward pass is not at its end.
  bool complete() const;

  int64_t examples() const;  ///< B; 0 while nothing was recorded
  rules::LinearProducts linear_products() const;

  /// Says what B is, and that the caller follows by itself which tensors hold the examples: an
  /// input that autograd reaches, but not through a recorded layer, is then recorded too.
  void follow(int64_t examples);

  /// After the backward pass: makes what `factors` and `norms_and_sums` say independent of what
  /// happens to parameters and to these tensors, the inputs of the model, later on.
  void settle(const ParameterList& parameters, const std::vector<at::Tensor>& inputs);

  /// Which parameters have recorded uses that were differentiated so that the result can be
  /// differentiated again (create_graph): the weights are detached, so their part in that is lost,
  /// and only the fallback is right for them. `twice` counts how often that happened.
  std::vector<size_t> differentiated_twice(const ParameterList& parameters) const;
  int64_t twice() const;

  /// Ends the recording: hooks still on tensors of the pass do nothing from now on.
  void close();

 private:
  struct Record;
  struct State;

  std::vector<size_t> differentiate(const at::Tensor& losses, const ParameterList& parameters);

  /// Differentiates, and makes one result a parameter: what the recorded uses say, else `make` of
  /// unused or of one-by-one gradients.
  template <typename Result, typename Recorded, typename Make>
  std::vector<Result> measured(const at::Tensor& losses, const ParameterList& parameters,
                               const LossOfExample& loss_of_example, const Recorded& recorded,
                               const Make& make);

  std::shared_ptr<State> state_;
};

/// The linear layer of a model that may or may not be measured: through the tape, or plain when
/// `tape` is null.
at::Tensor linear(Tape* tape, const at::Tensor& input, const at::Tensor& weight,
                  const at::Tensor& bias);

}  // namespace gradist
