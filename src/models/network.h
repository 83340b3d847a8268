#pragma once

#include "data/dataset.h"
#include "gradients/tape.h"
#include "models/losses.h"

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gradist {

/// A model whose forward pass may be measured: it calls the tape for the layers of the rule table.
class Network : public torch::nn::Module {
 public:
  /// Outputs [B, C] for inputs [B, ...], which the network flattens if it needs to. With a tape,
  /// the pass is recorded.
  virtual at::Tensor forward(const at::Tensor& inputs, Tape* tape = nullptr) = 0;

  /// One line on its kind and sizes: "mlp 64-128-10".
  virtual std::string describe() const = 0;

  /// Multiply-adds of one example's forward pass, roughly: what decides on threads.
  virtual int64_t multiplications() const;
};

/// Which network.
struct ModelOptions {
  std::string model = "mlp";
  std::vector<int64_t> hidden = {128};  ///< widths of the hidden layers of `mlp`, others have none
  double width = 1;                     ///< all widths of a network for images, times this
  std::string activation = "relu";      ///< between the layers, see activation.h
  std::string norm = "none";            ///< batch: batch norm in a network for images
  double dropout = 0;                   ///< probability, before each linear layer but a first one
  std::string init = "torch";           ///< how parameters are drawn, see initialisation.h
};

/// While it lives, the network is in train mode: batch norm goes by the batch. Else networks are in
/// eval mode, where every example has a gradient of its own.
class TrainMode {
 public:
  explicit TrainMode(Network& network) : network_(network) { network_.train(); }
  ~TrainMode() { network_.eval(); }
  TrainMode(const TrainMode&) = delete;
  TrainMode& operator=(const TrainMode&) = delete;

 private:
  Network& network_;
};

/// While it lives, running statistics may move; then they come back, bit for bit.
class KeptStatistics {
 public:
  explicit KeptStatistics(const Network& network);
  ~KeptStatistics();
  KeptStatistics(const KeptStatistics&) = delete;
  KeptStatistics& operator=(const KeptStatistics&) = delete;

 private:
  std::vector<at::Tensor> statistics_, kept_;
};

/// Names that ModelOptions::norm takes: none, batch.
const std::vector<std::string>& norm_names();

/// Names that ModelOptions::model takes: mlp, logistic (a linear classifier), linear (regression),
/// and the networks for images.
const std::vector<std::string>& model_names();

void validate(const ModelOptions& options);

/// A network for examples of shape `example` ([features] or [channels, height, width]), with
/// `outputs` outputs; float32, on the CPU, in eval mode. All randomness of its initialisation comes
/// from `generator`. For `sparse` inputs (Dataset::sparse) the model must be logistic or linear.
std::shared_ptr<Network> make_network(const ModelOptions& options, at::IntArrayRef example,
                                      int64_t outputs, at::Generator& generator,
                                      bool sparse = false);

/// What the model is trained on: half squared error for `linear` and for regression data, else
/// cross entropy. A classifier on regression data is an error.
Loss loss_for(const ModelOptions& options, const Dataset& data);

}  // namespace gradist
