#pragma once

#include "data/dataset.h"

#include <string>
#include <vector>

namespace gradist {

/// Names that DataOptions::targets takes: what the labels of a table are, classes or numbers to be
/// predicted.
const std::vector<std::string>& target_names();

/// Sets the targets of both sets from labels as files hold them. Classes are whole numbers that
/// floats tell apart; those of the training set, in ascending order, become 0, 1, ..., and the test
/// set must have no others. `files` name both sets in errors.
void set_targets(DataSplit& split, const std::string& targets, const at::Tensor& train_labels,
                 const at::Tensor& test_labels, const std::pair<std::string, std::string>& files);

}  // namespace gradist
