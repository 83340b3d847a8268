#include "data/stored_tables.h"

#include "data/compressed_rows.h"
#include "data/csv.h"
#include "data/data_folder.h"
#include "data/libsvm.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>

namespace gradist {
namespace {

class StoredCsv final : public InputSource {
 public:
  StoredCsv(TextRows rows, int64_t columns, int64_t target)
      : InputSource({rows.size(), columns - 1}),
        rows_(std::move(rows)),
        columns_(columns),
        target_(target) {}

  at::Tensor read(const at::Tensor& rows, const InputScale& scale) const override {
    at::Tensor inputs = at::empty({rows.numel(), columns_ - 1}, at::kFloat);
    const at::Tensor wanted = rows.contiguous();
    const auto* row = wanted.const_data_ptr<int64_t>();
    auto* into = inputs.mutable_data_ptr<float>();
    at::parallel_for(0, rows.numel(), /*grain_size=*/16, [&](int64_t begin, int64_t end) {
      checked([&] { read_some({row + begin, row + end}, into + begin * (columns_ - 1)); });
    });
    scale.apply(inputs);
    return inputs;
  }

 private:
  void read_some(std::span<const int64_t> rows, float* into) const {
    CsvTable table{.columns = columns_, .values = {}};
    for (const int64_t row : rows) {
      table.values.clear();
      rows_.parse(row, [&](const TextLine& line) { append_csv_row(line, table); });
      const auto target = table.values.begin() + target_;
      into = std::copy(table.values.begin(), target, into);
      into = std::copy(target + 1, table.values.end(), into);
    }
  }

  TextRows rows_;
  int64_t columns_, target_;
};

class StoredLibsvm final : public InputSource {
 public:
  StoredLibsvm(TextRows rows, int64_t features)
      : InputSource({rows.size(), features}), rows_(std::move(rows)) {}

  bool sparse() const override { return true; }

  at::Tensor read(const at::Tensor& rows, const InputScale& /*scale*/) const override {
    const at::Tensor wanted = rows.contiguous();
    const auto* row = wanted.const_data_ptr<int64_t>();
    SparseRows sparse;
    checked([&] {
      for (int64_t i = 0; i < rows.numel(); ++i) {
        rows_.parse(row[i], [&](const TextLine& line) { append(line, sparse); });
      }
    });
    return compressed_rows(sparse, sizes()[1]);
  }

 private:
  /// Only a text that has changed has more features than were counted.
  void append(const TextLine& line, SparseRows& sparse) const {
    append_libsvm_row(line, sparse);
    if (sparse.features > sizes()[1]) line.refuse("more features than there were");
  }

  TextRows rows_;
};

}  // namespace

std::shared_ptr<const InputSource> stored_csv(TextRows rows, int64_t columns, int64_t target) {
  return std::make_shared<StoredCsv>(std::move(rows), columns, target);
}

std::shared_ptr<const InputSource> stored_libsvm(TextRows rows, int64_t features) {
  return std::make_shared<StoredLibsvm>(std::move(rows), features);
}

}  // namespace gradist
