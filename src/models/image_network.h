#pragma once

#include "models/network.h"
#include "models/network_plan.h"
#include "models/sequence.h"

#include <functional>
#include <memory>
#include <string>

namespace gradist {

/// A network for images [B, C, H, W]: a sequence of layers that `build` makes. Planes are kept with
/// their channels last in memory, which makes convolutions on CPUs faster by a quarter.
class ImageNetwork final : public Network {
 public:
  using Build = std::function<void(Sequence&)>;

  ImageNetwork(const NetworkPlan& plan, const Build& build);

  at::Tensor forward(const at::Tensor& inputs, Tape* tape = nullptr) override;
  std::string describe() const override { return description_; }
  int64_t multiplications() const override { return layers_.multiplications(); }

 private:
  std::string description_;
  Sequence layers_;
};

}  // namespace gradist
