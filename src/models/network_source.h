#pragma once

#include "data/dataset.h"
#include "gradients/gradient_source.h"
#include "models/losses.h"
#include "models/network.h"

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

namespace gradist {

/// Means over a data set.
struct Evaluation {
  double loss = 0;
  double accuracy = std::numeric_limits<double>::quiet_NaN();  ///< in [0, 1]; NaN for regression
};

/// A network and its training set, as estimators and clustering see them. Device and floating-point
/// type are those of network and data, which must agree (Dataset::to). Measured are the parameters
/// that require gradients; their `.grad` is never touched.
class NetworkSource final : public GradientSource {
 public:
  NetworkSource(std::shared_ptr<Network> network, Dataset data, Loss loss,
                double label_smoothing = 0);

  int64_t examples() const override { return data_.size(); }
  const ParameterList& parameters() const override { return parameters_; }
  const std::vector<std::string>& parameter_names() const override { return names_; }
  GradientBatch gradients(const at::Tensor& indices) override;
  ParameterList weighted_gradient(const at::Tensor& indices, const at::Tensor& weights) override;

  /// Mean loss (the one trained on, label smoothing included) and accuracy over any data, without
  /// gradients. Summed in chunks of fixed size in float64, so that memory stays bounded.
  Evaluation evaluate(const Dataset& data) const;

  /// Losses [B] of outputs [B, C], label smoothing included.
  at::Tensor losses(const at::Tensor& outputs, const at::Tensor& targets) const;

  Network& network() const { return *network_; }
  const Dataset& data() const { return data_; }

 private:
  std::shared_ptr<Network> network_;
  Dataset data_;
  Loss loss_;
  double label_smoothing_;
  ParameterList parameters_;
  std::vector<std::string> names_;
};

}  // namespace gradist
