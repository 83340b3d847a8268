#include "models/network.h"

#include "models/linear_model.h"
#include "models/mlp.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>

namespace gradist {

const std::vector<std::string>& model_names() {
  static const std::vector<std::string> names = {"mlp", "logistic", "linear"};
  return names;
}

void validate(const ModelOptions& options) {
  TORCH_CHECK_VALUE(std::ranges::find(model_names(), options.model) != model_names().end(),
                    "model = ", options.model, ", must be one of ", c10::Join(", ", model_names()));
  for (int64_t width : options.hidden) {
    TORCH_CHECK_VALUE(width >= 1, "hidden = ", c10::Join(",", options.hidden),
                      ", each width must be >= 1");
  }
}

std::shared_ptr<Network> make_network(const ModelOptions& options, int64_t inputs, int64_t outputs,
                                      at::Generator& generator) {
  validate(options);
  if (options.model == "mlp")
    return std::make_shared<Mlp>(inputs, options.hidden, outputs, generator);
  return std::make_shared<LinearModel>(options.model, inputs, outputs, generator);
}

Loss loss_for(const ModelOptions& options, const Dataset& data) {
  TORCH_CHECK_VALUE(options.model != "logistic" || data.classes > 0,
                    "model = logistic, must be mlp or linear for ", data.name,
                    ", whose targets are numbers");
  return options.model == "linear" || data.classes == 0 ? Loss::kHalfSquaredError
                                                        : Loss::kCrossEntropy;
}

}  // namespace gradist
