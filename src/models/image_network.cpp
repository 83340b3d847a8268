#include "models/image_network.h"

#include <ATen/ATen.h>
#include <c10/util/Exception.h>

#include <sstream>

namespace gradist {
namespace {

/// "resnet8 3x32x32-10", and what is not as published.
std::string describe(const NetworkPlan& plan) {
  const ModelOptions& options = plan.options;
  std::ostringstream text;
  text << options.model << " ";
  for (size_t k = 0; k < plan.example.size(); ++k) text << (k > 0 ? "x" : "") << plan.example[k];
  text << "-" << plan.outputs;
  if (options.width != 1) text << ", width " << options.width;
  if (options.norm != "none") text << ", " << options.norm << " norm";
  if (options.dropout > 0) text << ", dropout " << options.dropout;
  if (options.activation != "relu") text << ", " << options.activation;
  return text.str();
}

ImageShape image_shape(const NetworkPlan& plan) {
  TORCH_CHECK_VALUE(plan.example.size() == 3, "model = ", plan.options.model,
                    ", must be mlp, logistic or linear for examples of shape ",
                    at::IntArrayRef(plan.example),
                    ": convolutions need images [channels, height, width]");
  return {plan.example[0], plan.example[1], plan.example[2]};
}

}  // namespace

ImageNetwork::ImageNetwork(const NetworkPlan& plan, const Build& build)
    : description_(gradist::describe(plan)), layers_(*this, plan, image_shape(plan)) {
  build(layers_);
}

at::Tensor ImageNetwork::forward(const at::Tensor& inputs, Tape* tape) {
  return layers_.forward(inputs.contiguous(at::MemoryFormat::ChannelsLast), tape);
}

}  // namespace gradist
