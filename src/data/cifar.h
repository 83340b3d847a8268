#pragma once

#include "data/dataset.h"

#include <string>

namespace gradist {

/// CIFAR-10 and CIFAR-100 [Krizhevsky09] from the files of their binary version: every file
/// of the folder whose name ends in .bin or .bin.gz. Those whose names begin with "test" are the
/// test set, all others the training set, in the order of their names (so data_batch_1.bin,
/// data_batch_2.bin, ... and test_batch.bin; train.bin and test.bin). Of a file and its .gz the
/// plain one is read. Inputs [N, 3, 32, 32]; ten classes, or the hundred fine ones.
/// `data` is "cifar10" or "cifar100".
/// Bytes in memory, or with `options.stream` left in the files, which must be plain then.
DataSplit store_cifar(const DataOptions& options);

/// The same as brightness in [0, 1].
DataSplit load_cifar(const std::string& name, const std::string& data_dir);

}  // namespace gradist
