#pragma once

#include "data/dataset.h"

#include <ATen/core/Generator.h>

#include <cstdint>

namespace gradist {

/// x <- (x - mean) / deviation for both sets, by the mean and the population standard deviation of
/// the *training* inputs as they were read, before any other of these (input_scale.h). Numeric
/// targets of a table likewise. Sparse inputs stay as they are: subtracting a mean would fill them.
/// MNIST gives the usual 0.1307 and 0.3081.
void standardize(DataSplit& split);

/// Leaves `examples` of the examples, drawn uniformly without replacement, in the order they had;
/// all of them for 0. More than there are is refused.
void take_examples(Dataset& train, int64_t examples, at::Generator& generator);

/// Changes the labels of exactly round(fraction * N) distinct examples, drawn uniformly, each to
/// one of the other classes with equal probability. [Faghri20] section 4.2 "randomly change the
/// labels for 10% of the training data", read so that every chosen label does change.
void corrupt_labels(Dataset& train, double fraction, at::Generator& generator);

/// Lets `points` distinct examples, drawn uniformly, make up round(fraction * N) of the N examples:
/// others, drawn uniformly, are overwritten by copies of them in turn, so that the numbers of
/// copies differ by one at most. The remaining examples and N stay as they are. [Faghri20] Fig. 8:
/// "5 data points that are repeated equally to make up 10%".
void duplicate_points(Dataset& train, int64_t points, double fraction, at::Generator& generator);

/// What can be said about the options before the data is read.
void validate_examples(int64_t examples);
void validate_label_corruption(double fraction);
void validate_duplicates(int64_t points, double fraction);

}  // namespace gradist
