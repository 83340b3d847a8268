#pragma once

#include "models/image_shape.h"
#include "models/layer.h"
#include "models/network_plan.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace gradist {

/// Layers one after the other, made from the first to the last; between them it knows the shape of
/// an example. The layers belong to a module, where they are called by kind and number: conv1,
/// conv2, block1, linear1.
///
///   layers.convolution(plan.scaled(6), {.kernel = 5}).activate().max_pool(2);
///   layers.flatten().linear(plan.outputs);
class Sequence {
 public:
  /// `prefix` comes before the names of the layers.
  Sequence(torch::nn::Module& owner, const NetworkPlan& plan, const ImageShape& input,
           std::string prefix = "");
  Sequence(const Sequence&) = delete;
  Sequence& operator=(const Sequence&) = delete;

  /// Planes in, planes out. A convolution has a bias where the network has no batch norm.
  Sequence& convolution(int64_t planes, const Window& window);
  Sequence& max_pool(const Window& window);
  Sequence& average_pool(const Window& window);

  /// Batch norm, or nothing in a network that has none.
  Sequence& normalize();

  /// The mean of each plane.
  Sequence& mean();

  /// All numbers of an example in a row.
  Sequence& flatten();

  /// Dropout before it, in a network that has some.
  Sequence& linear(int64_t outputs);

  /// The activation that the options name.
  Sequence& activate();

  /// A layer of another kind, which makes planes of shape `output`.
  Sequence& add(const std::string& kind, const std::shared_ptr<Layer>& layer,
                const ImageShape& output);

  /// What the layers so far make of an example; after `flatten`, `mean` and `linear` all numbers
  /// are channels.
  const ImageShape& shape() const { return shape_; }

  at::Tensor forward(const at::Tensor& input, Tape* tape) const;
  int64_t multiplications() const;

 private:
  using Step = std::function<at::Tensor(const at::Tensor&, Tape*)>;

  bool has_batch_norm() const { return plan_.options.norm == "batch"; }

  /// The shape under a window, which must fit.
  ImageShape under(const Window& window) const;

  torch::nn::Module& owner_;
  NetworkPlan plan_;
  ImageShape shape_;
  std::string prefix_;
  std::map<std::string, int> count_;  ///< of each kind
  std::vector<std::shared_ptr<Layer>> layers_;
  std::vector<Step> steps_;
};

}  // namespace gradist
