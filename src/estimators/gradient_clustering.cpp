#include "estimators/gradient_clustering.h"

#include <utility>

namespace gradist {

GradientClustering::GradientClustering(std::string name, int64_t draws, Algorithm algorithm)
    : name_(std::move(name)), draws_(draws), algorithm_(algorithm) {
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
    set_clustering(descent(source, *options, former, generator, &evaluations));
  } else {
    set_clustering(lloyd(source, std::get<LloydOptions>(algorithm_), generator, &evaluations));
  }
  return evaluations;
}

void GradientClustering::set_clustering(Clustering clustering) {
  clustering_ = std::move(clustering);
  design_ = stratified_design(clustering_, draws_, replacement_);
}

}  // namespace gradist
