#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace gradist {

/// What a file of training data is, in one line: format, sizes, classes. The format is told by the
/// content: IDX by its magic number, text with index:value in its first line as LIBSVM, other text
/// as CSV, HDF5, PNG and JPEG by their first bytes; files whose name ends in .bin (or .bin.gz) as
/// CIFAR-10 or else CIFAR-100. The whole file is read, so a damaged one is found. Throws DataError.
std::string describe_data_file(const std::filesystem::path& file);

/// A line for the file, or, where it is one, for the image folder, and for each file of the folder
/// that may be data, in the order of their names; one that is no data, or damaged, has its error in
/// its line. Beside CIFAR's *.bin files, whose archive has label names and a readme, text is no
/// data: passed over, and its line says so.
struct DataLine {
  std::string file;
  std::string text;
  bool good = true;
};
std::vector<DataLine> describe_data(const std::filesystem::path& path);

}  // namespace gradist
