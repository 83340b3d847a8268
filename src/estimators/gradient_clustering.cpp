#include "estimators/gradient_clustering.h"

#include <utility>

namespace gradist {

GradientClustering::GradientClustering(std::string name, int64_t draws, LloydOptions options)
    : name_(std::move(name)), draws_(draws), options_(options) {
  options_.draws = draws;
}

int64_t GradientClustering::refresh(GradientSource& source, at::Generator& generator) {
  int64_t evaluations = 0;
  set_clustering(lloyd(source, options_, generator, &evaluations));
  return evaluations;
}

void GradientClustering::set_clustering(Clustering clustering) {
  clustering_ = std::move(clustering);
  design_ = stratified_design(clustering_, draws_, options_.replacement);
}

}  // namespace gradist
