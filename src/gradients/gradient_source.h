#pragma once

#include "gradients/gradient_batch.h"

#include <cstdint>
#include <string>
#include <vector>

namespace gradist {

/// What gradients depend on besides the parameters.
struct SourceState {
  ParameterList statistics;  ///< running ones of batch norm; empty: restoring leaves them alone
  uint64_t key = 0;          ///< which random transforms and dropout masks the examples have
};

/// All that estimators and clustering see of a model and its training set: indices in; factored
/// per-example gradients, losses and parameters out. A C++ network and a Python nn.Module both fill
/// it. N examples, f_i the loss of example i.
class GradientSource {
 public:
  virtual ~GradientSource() = default;

  virtual int64_t examples() const = 0;  ///< N

  /// The live parameters that are measured, and their names; order and identity never change.
  virtual const ParameterList& parameters() const = 0;
  virtual const std::vector<std::string>& parameter_names() const = 0;

  /// Gradients of f_i for i in `indices` [B] (int64, CPU) at the present parameters. Leaves no
  /// trace on the model.
  virtual GradientBatch gradients(const at::Tensor& indices) = 0;

  /// sum_i w_i grad f_i for i in `indices` [B], weights [B] (float64, CPU), by one plain backward
  /// pass: works where examples do not separate too. Same shapes and dtype as the parameters.
  virtual ParameterList weighted_gradient(const at::Tensor& indices, const at::Tensor& weights) = 0;

  /// False where a loss depends on the other examples of its batch, as by batch norm in train mode:
  /// then there is no f_i, and of the two above only `weighted_gradient` works.
  virtual bool separable() const { return true; }

  /// A copy of the state, and back to such a copy, bit for bit.
  virtual SourceState state() const { return {}; }
  virtual void restore(const SourceState& /*state*/) {}

  int64_t parameter_count() const;  ///< P
};

/// While it lives, the source's parameters hold `values` (same shapes); the old ones come back
/// untouched, bit for bit.
class ParameterSwap {
 public:
  ParameterSwap(const GradientSource& source, const ParameterList& values);
  ~ParameterSwap();
  ParameterSwap(const ParameterSwap&) = delete;
  ParameterSwap& operator=(const ParameterSwap&) = delete;

 private:
  ParameterList parameters_, saved_;
};

/// A detached copy of the present parameters.
ParameterList copy_parameters(const GradientSource& source);

}  // namespace gradist
