#pragma once

#include "gradients/factored_gradients.h"
#include "gradients/method_choice.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace gradist {

/// Where the examples of a batch are in the tensors of a layer.
struct BatchLayout {
  int64_t examples = 0;         ///< B; 0: not known yet, dimension 0 of the first recorded input
  bool sequence_first = false;  ///< [S, B, ...]: they are in dimension 1
};

/// What factors say by themselves, in the one way there is.
NormsAndSum reduced(const FactoredGradients& gradients);

/// One use of a layer in a recorded pass, and the rule that turns its backprops (the gradient of
/// the *summed* loss with respect to its output) into per-example gradients of its parameters.
///
/// There is one class a family of layers, made by the functions of layer_rules.h. A use runs the
/// operation itself, with detached parameters, so that autograd never forms their summed gradients.
/// What it keeps of the input is what autograd keeps anyway. Factors come in the type the layer
/// computed in, sums over positions are float32 at least.
class LayerUse {
 public:
  enum class Role { kWeight, kBias };

  virtual ~LayerUse() = default;
  LayerUse(const LayerUse&) = delete;
  LayerUse& operator=(const LayerUse&) = delete;

  /// The parameters that want gradients (or tensors computed from parameters), with their roles.
  struct Parameter {
    at::Tensor tensor;
    Role role;

    std::vector<int64_t> shape() const { return tensor.sizes().vec(); }
  };
  const std::vector<Parameter>& parameters() const { return parameters_; }

  /// The input with its graph; undefined after forward.
  const at::Tensor& graph_input() const { return graph_input_; }

  /// The input, detached; undefined once forgotten.
  const at::Tensor& raw_input() const { return input_; }

  /// Whether the input has its examples where the layout says, and not in its last dimension if it
  /// has the sequence first: that one most layers sum over.
  virtual bool fits(const BatchLayout& layout) const;
  void set_layout(const BatchLayout& layout) { layout_ = layout; }

  /// The layer's output. Called once.
  virtual at::Tensor forward() = 0;

  /// Per-example gradients of one of `parameters`.
  virtual FactoredGradients gradients(const Parameter& parameter,
                                      const at::Tensor& backprops) const = 0;

  /// Their squared norms and sum, from one formation of g_i wherever g_i is formed.
  virtual NormsAndSum norms_and_sum(const Parameter& parameter, const at::Tensor& backprops,
                                    MethodChoices& choices) const;

  /// The same of all `parameters`, in order.
  virtual std::vector<NormsAndSum> norms_and_sums(const at::Tensor& backprops,
                                                  MethodChoices& choices) const;

  /// Copies the input if it shares memory with one of these, which may change later on.
  void own_input(const std::vector<at::Tensor>& shared);

  /// Frees the input: no gradients any more.
  void release();
  bool released() const { return released_; }

 protected:
  /// `name` is the layer's in messages ("a linear layer").
  LayerUse(const at::Tensor& input, std::string name);

  /// Adds a parameter if it is there and wants a gradient.
  void add_parameter(const at::Tensor& tensor, Role role);

  /// The input with its graph, for `forward` to take.
  at::Tensor take_input() { return std::move(graph_input_); }

  /// The input, detached, as the layer read it; an error if it was changed in place since.
  const at::Tensor& input() const;

  /// The input and the backprops as factors: examples in dimension 0, and in the type the layer
  /// computed in (under autocast, not the input's), float32 at least.
  at::Tensor input_by_example(const at::Tensor& backprops) const;
  at::Tensor by_example(const at::Tensor& values) const;

  /// For layers whose gradients don't need the input.
  void forget_input() { input_.reset(); }

  /// A layer with its shapes, type, device and threads, as the table of choices names it.
  static std::string describe(const std::string& layer, const at::Tensor& input,
                              const at::Tensor& backprops);

 private:
  at::Tensor graph_input_, input_;
  std::string name_;
  uint32_t input_version_;
  std::vector<Parameter> parameters_;
  BatchLayout layout_;
  bool released_ = false;
};

}  // namespace gradist
