#pragma once

#include "gradients/gradient_source.h"
#include "gradients/tape.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace gradist::test {

/// A generator of its own for each seed.
at::Generator generator_of(uint64_t seed);

/// Independent standard normal numbers.
at::Tensor normal(std::vector<int64_t> sizes, uint64_t seed, at::ScalarType dtype = at::kDouble);

/// A training set whose per-example gradients are known in two ways: through the interface, and
/// densely by an oracle.
class TestSource : public GradientSource {
 public:
  /// G at the present parameters, [N, P] float64, by the oracle.
  virtual at::Tensor oracle() const = 0;

  /// G with the parameters in their places, L tensors [N, P_l].
  std::vector<at::Tensor> oracle_per_parameter() const;

  const ParameterList& parameters() const override { return parameters_; }
  const std::vector<std::string>& parameter_names() const override { return names_; }

  /// Adds normal noise of the given size to all parameters, as training steps would.
  void move(double distance, uint64_t seed);

 protected:
  ParameterList parameters_;
  std::vector<std::string> names_;
};

/// A model written as one function of (tape or null, parameters, inputs [B, ...], targets [B, ...])
/// -> losses [B].
class TinySource : public TestSource {
 public:
  using Losses =
      std::function<at::Tensor(Tape*, const ParameterList&, const at::Tensor&, const at::Tensor&)>;

  TinySource(const ParameterList& parameters, at::Tensor inputs, at::Tensor targets, Losses losses);

  int64_t examples() const override { return inputs_.size(0); }
  GradientBatch gradients(const at::Tensor& indices) override;
  ParameterList weighted_gradient(const at::Tensor& indices, const at::Tensor& weights) override;
  at::Tensor oracle() const override;

 private:
  at::Tensor loss_of(int64_t example) const;

  at::Tensor inputs_, targets_;
  Losses losses_;
};

/// Quadratics f_i = <r_i, theta> + (1/2) sum_j c_ij theta_j^2 whose gradients r_i + c_i theta are
/// rows one may choose; theta starts at 0. Cheap, for statistics over many examples. Without
/// `curvatures` c is 0. The rows are cut into two parameters.
class VectorSource : public TestSource {
 public:
  explicit VectorSource(at::Tensor rows, at::Tensor curvatures = {});

  int64_t examples() const override { return rows_.size(0); }
  GradientBatch gradients(const at::Tensor& indices) override;
  ParameterList weighted_gradient(const at::Tensor& indices, const at::Tensor& weights) override;
  at::Tensor oracle() const override;

 private:
  at::Tensor rows_of(const at::Tensor& indices) const;

  at::Tensor rows_, curvatures_;
};

/// A tiny problem, and how each parameter's gradients are to come about.
struct Problem {
  std::string name;
  std::unique_ptr<TestSource> source;
  std::vector<std::string> methods;
};

/// The shared list: every kind of use of a parameter that the rules know or do not know. N <= 6, P
/// <= 22.
std::vector<std::string> problem_names();
Problem make_problem(const std::string& name, at::ScalarType dtype = at::kDouble);

}  // namespace gradist::test
