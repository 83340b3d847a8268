#pragma once

#include "data/bytes.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace gradist {

/// The records of the binary version of CIFAR-10 and CIFAR-100 [Krizhevsky09]: nothing but
/// records, each its labels (a byte each), then 32 x 32 pixels of red, of green and of blue, row by
/// row, a byte each.
struct CifarRecords {
  static constexpr int64_t kChannels = 3, kSide = 32;
  static constexpr int64_t kPixels = kChannels * kSide * kSide;

  std::vector<uint8_t> labels;  ///< [N], the last label of each record
  std::vector<uint8_t> pixels;  ///< [N, 3, 32, 32]

  int64_t size() const { return static_cast<int64_t>(labels.size()); }
};

/// How many labels a record has, and the classes of each, in their order in the record.
using CifarLabels = std::vector<int>;

/// CIFAR-10: one label. CIFAR-100: the coarse one, then the fine one, which is the class.
const CifarLabels& cifar10_labels();
const CifarLabels& cifar100_labels();

/// Takes the class of a record and its pixels, kPixels bytes.
using CifarVisitor = std::function<void(uint8_t label, const uint8_t* pixels)>;

/// Visits the records of one file, at least one, in order; returns how many there are.
int64_t visit_cifar(const ByteReader& read, const CifarLabels& labels, const std::string& name,
                    const CifarVisitor& visit);

/// Appends the records of one file. Memory never grows beyond what the data has really delivered by
/// more than a fixed piece, and never beyond a million records. `name` is what errors call the
/// data.
void parse_cifar(const ByteReader& read, const CifarLabels& labels, const std::string& name,
                 CifarRecords& records);

/// Reads a file, plain or gzip-compressed (told by its content, not its name).
void read_cifar(const std::filesystem::path& file, const CifarLabels& labels,
                CifarRecords& records);

}  // namespace gradist
