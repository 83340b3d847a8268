#include "models/network.h"

#include "models/activation.h"
#include "models/densenet.h"
#include "models/initialisation.h"
#include "models/lenet.h"
#include "models/linear_model.h"
#include "models/mlp.h"
#include "models/network_plan.h"
#include "models/resnet.h"
#include "models/small_cnn.h"
#include "models/vgg.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <cmath>

namespace gradist {
namespace {

/// A linear model has no activation, and only networks for images have widths of their own.
enum class Kind { kLinear, kHidden, kImages };

struct NamedNetwork {
  const char* name;
  Kind kind;
  std::shared_ptr<Network> (*make)(const NetworkPlan& plan);
};

std::shared_ptr<Network> make_linear_model(const NetworkPlan& plan) {
  at::Generator generator = plan.generator;
  return std::make_shared<LinearModel>(plan.options.model, plan.inputs(), plan.outputs, generator,
                                       plan.sparse);
}

std::shared_ptr<Network> make_mlp(const NetworkPlan& plan) {
  at::Generator generator = plan.generator;
  return std::make_shared<Mlp>(plan.inputs(), plan.options.hidden, plan.outputs, generator,
                               activation(plan.options.activation), plan.options.dropout,
                               plan.options.norm == "batch");
}

template <int64_t kBlocks>
std::shared_ptr<Network> make_cifar_resnet(const NetworkPlan& plan) {
  return make_cifar_resnet(plan, kBlocks);
}

/// The one table of networks: a new one is a row here and a function in the file of its family.
constexpr NamedNetwork kNetworks[] = {
    {"mlp", Kind::kHidden, make_mlp},
    {"logistic", Kind::kLinear, make_linear_model},
    {"linear", Kind::kLinear, make_linear_model},
    {"lenet5", Kind::kImages, [](const NetworkPlan& p) { return make_lenet5(p, Pooling::kMax); }},
    {"lenet5-average", Kind::kImages,
     [](const NetworkPlan& p) { return make_lenet5(p, Pooling::kAverage); }},
    {"cnn", Kind::kImages, make_small_cnn},
    {"vgg11", Kind::kImages, make_vgg11},
    {"resnet8", Kind::kImages, make_cifar_resnet<1>},
    {"resnet20", Kind::kImages, make_cifar_resnet<3>},
    {"resnet32", Kind::kImages, make_cifar_resnet<5>},
    {"resnet110", Kind::kImages, make_cifar_resnet<18>},
    {"resnet18-cifar", Kind::kImages, make_resnet18_cifar},
    {"resnet101-cifar", Kind::kImages, make_resnet101_cifar},
    {"resnet18", Kind::kImages, make_resnet18},
    {"resnet50", Kind::kImages, make_resnet50},
    {"resnet101", Kind::kImages, make_resnet101},
    {"densenet40", Kind::kImages, make_densenet40},
    {"densenet169", Kind::kImages, make_densenet169},
};

const NamedNetwork& find_network(const std::string& name) {
  const auto* row = std::ranges::find(kNetworks, name, &NamedNetwork::name);
  TORCH_CHECK_VALUE(row != std::end(kNetworks), "model = ", name, ", must be one of ",
                    c10::Join(", ", model_names()));
  return *row;
}

}  // namespace

KeptStatistics::KeptStatistics(const Network& network) : statistics_(network.buffers()) {
  for (const at::Tensor& statistic : statistics_) kept_.push_back(statistic.clone());
}

KeptStatistics::~KeptStatistics() {
  for (size_t l = 0; l < kept_.size(); ++l) statistics_[l].copy_(kept_[l]);
}

int64_t Network::multiplications() const {
  int64_t sum = 0;
  for (const at::Tensor& parameter : parameters()) sum += parameter.numel();
  return sum;
}

const std::vector<std::string>& model_names() {
  static const auto names = [] {
    std::vector<std::string> list;
    for (const auto& row : kNetworks) list.emplace_back(row.name);
    return list;
  }();
  return names;
}

const std::vector<std::string>& norm_names() {
  static const std::vector<std::string> names = {"none", "batch"};
  return names;
}

void validate(const ModelOptions& options) {
  const Kind kind = find_network(options.model).kind;
  for (int64_t width : options.hidden) {
    TORCH_CHECK_VALUE(width >= 1, "hidden = ", c10::Join(",", options.hidden),
                      ", each width must be >= 1");
  }
  TORCH_CHECK_VALUE(options.width > 0 && std::isfinite(options.width), "width = ", options.width,
                    ", must be > 0");
  TORCH_CHECK_VALUE(kind == Kind::kImages || options.width == 1, "width = ", options.width,
                    ", must be 1 for ", options.model,
                    kind == Kind::kHidden ? ", whose widths are those of hidden"
                                          : ", which has no hidden layers");
  activation(options.activation);
  TORCH_CHECK_VALUE(kind != Kind::kLinear || options.activation == "relu",
                    "activation = ", options.activation, ", must be relu for ", options.model,
                    ", which has no hidden layers");
  TORCH_CHECK_VALUE(std::ranges::find(norm_names(), options.norm) != norm_names().end(),
                    "norm = ", options.norm, ", must be one of ", c10::Join(", ", norm_names()));
  TORCH_CHECK_VALUE(kind != Kind::kLinear || options.norm == "none", "norm = ", options.norm,
                    ", must be none for ", options.model, ", which has no hidden layers");
  TORCH_CHECK_VALUE(options.dropout >= 0 && options.dropout < 1, "dropout = ", options.dropout,
                    ", must lie in [0, 1)");
  TORCH_CHECK_VALUE(kind != Kind::kLinear || options.dropout == 0, "dropout = ", options.dropout,
                    ", must be 0 for ", options.model, ", which has no hidden layers");
  validate_initialisation(options.init);
}

std::shared_ptr<Network> make_network(const ModelOptions& options, at::IntArrayRef example,
                                      int64_t outputs, at::Generator& generator, bool sparse) {
  validate(options);
  const NetworkPlan plan{options, example.vec(), outputs, sparse, generator};
  const NamedNetwork& row = find_network(options.model);
  TORCH_CHECK_VALUE(!sparse || row.kind == Kind::kLinear, "model = ", options.model,
                    ", must be logistic or linear for sparse data");
  auto network = row.make(plan);
  initialise(*network, options.init, generator);
  network->eval();
  return network;
}

Loss loss_for(const ModelOptions& options, const Dataset& data) {
  TORCH_CHECK_VALUE(options.model != "logistic" || data.classes > 0,
                    "model = logistic, must be mlp or linear for ", data.name,
                    ", whose targets are numbers");
  return options.model == "linear" || data.classes == 0 ? Loss::kHalfSquaredError
                                                        : Loss::kCrossEntropy;
}

}  // namespace gradist
