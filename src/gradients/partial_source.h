#pragma once

#include "gradients/gradient_source.h"

#include <string>
#include <vector>

namespace gradist {

/// Which of `names` the patterns choose, ascending. A pattern is a name in which * stands for any
/// text, ? for a letter and [ab] for one of these; one with ! in front leaves out what it matches.
/// Chosen is what any pattern without ! matches (everything where there is none) and none with !
/// does. Refuses a pattern that matches nothing, and a choice of nothing.
std::vector<size_t> chosen_parameters(const std::vector<std::string>& names,
                                      const std::vector<std::string>& patterns);

/// A source of which only some parameters are seen. Gradients of the others are computed all the
/// same and then dropped.
class PartialSource final : public GradientSource {
 public:
  /// `source` is used while this lives. No patterns: all parameters.
  PartialSource(GradientSource& source, const std::vector<std::string>& patterns);

  int64_t examples() const override { return source_.examples(); }
  const ParameterList& parameters() const override { return parameters_; }
  const std::vector<std::string>& parameter_names() const override { return names_; }
  GradientBatch gradients(const at::Tensor& indices) override;
  ParameterList weighted_gradient(const at::Tensor& indices, const at::Tensor& weights) override;

 private:
  GradientSource& source_;
  std::vector<size_t> chosen_;
  ParameterList parameters_;
  std::vector<std::string> names_;
};

}  // namespace gradist
