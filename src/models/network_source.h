#pragma once

#include "data/augmentation.h"
#include "data/dataset.h"
#include "gradients/gradient_source.h"
#include "models/batch_norm_policy.h"
#include "models/dropout_layer.h"
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

/// What is random about the examples, a pure function of example and key.
struct Randomness {
  Augmentation augmentation = Augmentation::kNone;
  uint64_t transform_seed = 0;
  uint64_t dropout_seed = 0;
};

/// A network and its training set, as estimators and clustering see them. Device and floating-point
/// type are those of network and data, which must agree (Dataset::to). Measured are the parameters
/// that require gradients; their `.grad` is never touched.
///
/// Which transforms and dropout masks the examples have is decided by the key, so that f_i is a
/// function of the parameters as long as the key stays. The state is the key and batch norm's
/// running statistics (without these for BatchNormPolicy::kTrain, by which nobody puts them back).
class NetworkSource final : public GradientSource {
 public:
  NetworkSource(std::shared_ptr<Network> network, Dataset data, Loss loss,
                double label_smoothing = 0, const Randomness& randomness = {},
                BatchNormPolicy batch_norm = BatchNormPolicy::kEval);

  int64_t examples() const override { return data_.size(); }
  const ParameterList& parameters() const override { return parameters_; }
  const std::vector<std::string>& parameter_names() const override { return names_; }
  GradientBatch gradients(const at::Tensor& indices) override;
  ParameterList weighted_gradient(const at::Tensor& indices, const at::Tensor& weights) override;
  bool separable() const override { return statistics_.empty() || !network_->is_training(); }
  SourceState state() const override;
  void restore(const SourceState& state) override;

  /// Of all passes from now on.
  void set_key(uint64_t key) { key_ = key; }

  /// Mean loss (the one trained on, label smoothing included) and accuracy over any data, without
  /// gradients, transforms and dropout. Summed in chunks of fixed size in float64, so that memory
  /// stays bounded.
  Evaluation evaluate(const Dataset& data) const;

  /// Losses [B] of outputs [B, C], label smoothing included.
  at::Tensor losses(const at::Tensor& outputs, const at::Tensor& targets) const;

  Network& network() const { return *network_; }
  const Dataset& data() const { return data_; }

 private:
  /// Outputs for the examples `rows`, transformed and with their masks.
  at::Tensor outputs_of(const at::Tensor& rows, Tape* tape = nullptr);
  void set_masks(const at::Tensor& rows);

  std::shared_ptr<Network> network_;
  Dataset data_;
  Loss loss_;
  double label_smoothing_;
  Randomness randomness_;
  BatchNormPolicy batch_norm_;
  uint64_t key_ = 0;
  ParameterList statistics_;             ///< the network's own
  std::vector<DropoutLayer*> dropouts_;  ///< the network's own
  ParameterList parameters_;
  std::vector<std::string> names_;
};

}  // namespace gradist
