#pragma once

#include "gradients/gradient_source.h"

#include <functional>
#include <utility>

namespace gradist::detail {

/// Thrown to leave a pass that was asked to stop; the trajectory catches it.
struct RunStopped {};

/// A source that asks before each chunk whether to go on, so that Ctrl-C ends a pass over millions
/// of examples at once.
class InterruptibleSource final : public GradientSource {
 public:
  InterruptibleSource(GradientSource& source, std::function<bool()> wants_stop)
      : source_(source), wants_stop_(std::move(wants_stop)) {}

  int64_t examples() const override { return source_.examples(); }
  const ParameterList& parameters() const override { return source_.parameters(); }
  const std::vector<std::string>& parameter_names() const override {
    return source_.parameter_names();
  }

  GradientBatch gradients(const at::Tensor& indices) override {
    stop_if_wanted();
    return source_.gradients(indices);
  }

  ParameterList weighted_gradient(const at::Tensor& indices, const at::Tensor& weights) override {
    stop_if_wanted();
    return source_.weighted_gradient(indices, weights);
  }

  bool separable() const override { return source_.separable(); }
  SourceState state() const override { return source_.state(); }
  void restore(const SourceState& state) override { source_.restore(state); }

 private:
  void stop_if_wanted() const {
    if (wants_stop_()) {
      throw RunStopped();
    }
  }

  GradientSource& source_;
  std::function<bool()> wants_stop_;
};

}  // namespace gradist::detail
