#include "data/cifar_records.h"

namespace gradist {
namespace {

constexpr size_t kPixels = CifarRecords::kPixels;
constexpr size_t kRecordsAtOnce = 16;
constexpr int64_t kMostRecords = int64_t{1} << 20;

std::string described(const CifarLabels& labels) {
  return std::to_string(labels.size() + kPixels) + " bytes (" + std::to_string(labels.size()) +
         (labels.size() == 1 ? " label, " : " labels, ") + std::to_string(kPixels) + " pixels)";
}

void check_labels(const uint8_t* record, const CifarLabels& labels, const std::string& name,
                  int64_t number) {
  for (size_t i = 0; i < labels.size(); ++i) {
    if (record[i] >= labels[i]) {
      refuse_data(name, "label " + std::to_string(record[i]) + " at byte " + std::to_string(i) +
                            " of record " + std::to_string(number) + " (from 0), must be 0.." +
                            std::to_string(labels[i] - 1));
    }
  }
}

}  // namespace

const CifarLabels& cifar10_labels() {
  static const CifarLabels labels = {10};
  return labels;
}

const CifarLabels& cifar100_labels() {
  static const CifarLabels labels = {20, 100};
  return labels;
}

int64_t visit_cifar(const ByteReader& read, const CifarLabels& labels, const std::string& name,
                    const CifarVisitor& visit) {
  const size_t length = labels.size() + kPixels;
  std::vector<uint8_t> piece(kRecordsAtOnce * length);
  int64_t number = 0;
  size_t got = piece.size();
  while (got == piece.size()) {
    got = read(piece);
    if (number == 0 && got == 0) {
      refuse_data(name, "empty file, must hold records of " + described(labels));
    }
    for (size_t begin = 0; begin + length <= got; begin += length, ++number) {
      const uint8_t* record = piece.data() + begin;
      check_labels(record, labels, name, number);
      visit(record[labels.size() - 1], record + labels.size());
    }
    if (got % length != 0) {
      refuse_data(name, "record " + std::to_string(number) + " (from 0) ends after " +
                            std::to_string(got % length) + " bytes, must have " +
                            described(labels));
    }
  }
  return number;
}

void parse_cifar(const ByteReader& read, const CifarLabels& labels, const std::string& name,
                 CifarRecords& records) {
  visit_cifar(read, labels, name, [&](uint8_t label, const uint8_t* pixels) {
    if (records.size() == kMostRecords) {
      refuse_data(name, "more records than fit, must be at most " + std::to_string(kMostRecords) +
                            " in all files");
    }
    records.labels.push_back(label);
    records.pixels.insert(records.pixels.end(), pixels, pixels + kPixels);
  });
}

void read_cifar(const std::filesystem::path& file, const CifarLabels& labels,
                CifarRecords& records) {
  ByteFile bytes(file);
  parse_cifar(bytes.reader(), labels, file.string(), records);
}

}  // namespace gradist
