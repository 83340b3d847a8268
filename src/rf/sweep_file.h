#pragma once

#include "rf/model_run.h"
#include "rf/sweep_options.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace gradist::rf {

/// The version of the layout that SweepFile writes and reads.
inline constexpr int64_t kSweepSchemaVersion = 1;

/// A sweep as HDF5 (docs/random-features.md): E estimators, T log points.
///
///   /   attributes schema, schema_version, gradist_version, config (TOML, what determines the
///       result); the axes n, d_in, h_teacher, h_student, duplicates, batch_size, lr, weight_decay,
///       seed, estimator, iteration as dimension scales; a dataset for each of sweep_columns() over
///       the nine axes and what more it has; `complete` over the nine, 1 where a model is there
///
/// Numbers of models that are not complete are NaN. All datasets have their place in the file
/// before it gets its name, so a finished model changes numbers only: kill the writer at any time,
/// and what `complete` counts is whole. It can be read while it grows (SWMR).
class SweepFile {
 public:
  /// A new file; an existing one is refused without `overwrite`.
  static SweepFile create(const std::string& path, const SweepOptions& options, bool overwrite);

  /// An existing file, to go on with, also after its writer was killed. One of another grid is
  /// refused.
  static SweepFile resume(const std::string& path, const SweepOptions& options);

  SweepFile(SweepFile&&) noexcept;
  SweepFile& operator=(SweepFile&&) noexcept;
  ~SweepFile();

  /// Which models are there, [number of models].
  const std::vector<bool>& complete() const;

  /// Adds a model and flushes it. One thread at a time.
  void add(int64_t model, const ModelRecord& record);

 private:
  class File;
  explicit SweepFile(std::unique_ptr<File> file);
  std::unique_ptr<File> file_;
};

/// A sweep that is there, to be read; also while another process writes it.
class SweepReader {
 public:
  explicit SweepReader(const std::string& path);
  SweepReader(SweepReader&&) noexcept;
  ~SweepReader();

  const std::string& path() const;
  const SweepOptions& options() const;  ///< what determines the result, from `config`
  const std::vector<bool>& complete() const;
  ModelRecord record(int64_t model) const;

 private:
  class File;
  std::unique_ptr<File> file_;
};

}  // namespace gradist::rf
