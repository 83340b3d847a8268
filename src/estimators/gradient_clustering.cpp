#include "estimators/gradient_clustering.h"

#include <utility>

namespace gradist {

GradientClustering::GradientClustering(std::string name, int64_t draws, Algorithm algorithm,
                                       Allocation allocation, std::optional<double> importance_mix)
    : name_(std::move(name)),
      draws_(draws),
      allocation_(allocation),
      importance_mix_(importance_mix),
      algorithm_(algorithm) {
  replacement_ = std::visit(
      [draws](auto& options) {
        options.draws = draws;
        return options.replacement;
      },
      algorithm_);
}

int64_t GradientClustering::refresh(GradientSource& source, at::Generator& generator) {
  int64_t evaluations = 0;
  if (const auto* options = std::get_if<DescentOptions>(&algorithm_)) {
    const auto* former = clustering_.clusters() > 0 ? &clustering_ : nullptr;
    set_clustering(descent(source, *options, former, generator, &evaluations, &memory_));
  } else {
    set_clustering(lloyd(source, std::get<LloydOptions>(algorithm_), generator, &evaluations));
  }
  return evaluations;
}

void GradientClustering::set_clustering(Clustering clustering) {
  TORCH_CHECK_VALUE(!importance_mix_ || clustering.squared_norms.defined(), name_,
                    ": needs clusters made from gradients, whose norms are known, not one's own");
  clustering_ = std::move(clustering);
  design_ = stratified_design(clustering_, draws_, replacement_, allocation_);
  if (importance_mix_) {
    design_ = with_importance(std::move(design_), clustering_.squared_norms, *importance_mix_);
  }
}

}  // namespace gradist
