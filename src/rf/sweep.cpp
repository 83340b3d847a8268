#include "rf/sweep.h"

#include "rf/parallel.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <mutex>

namespace gradist::rf {

namespace {

bool same_bits(const ModelRecord& a, const ModelRecord& b) {
  return std::all_of(sweep_columns().begin(), sweep_columns().end(), [&](const auto& column) {
    const auto& left = a.*column.values;
    const auto& right = b.*column.values;
    return left.size() == right.size() &&
           std::memcmp(left.data(), right.data(), left.size() * sizeof(double)) == 0;
  });
}

/// Which file of a merge has a model, checked: all that have it agree.
class MergeSources {
 public:
  explicit MergeSources(const std::vector<std::string>& paths) {
    for (const auto& path : paths) {
      readers_.emplace_back(path);
      const auto expected = config_of(readers_.front().options());
      TORCH_CHECK_VALUE(config_of(readers_.back().options()) == expected, "merge = ", path,
                        ", must be a sweep of the same grid as ", paths.front());
    }
    for (int64_t model = 0; model < models_in(options()); ++model) {
      check_agreement(model);
    }
  }

  const SweepOptions& options() const { return readers_.front().options(); }

  const SweepReader* holder(int64_t model) const {
    const auto found = std::find_if(readers_.begin(), readers_.end(), [&](const auto& reader) {
      return reader.complete()[static_cast<size_t>(model)];
    });
    return found == readers_.end() ? nullptr : &*found;
  }

 private:
  void check_agreement(int64_t model) const {
    const SweepReader* first = holder(model);
    for (const auto& reader : readers_) {
      const bool there = reader.complete()[static_cast<size_t>(model)];
      TORCH_CHECK_VALUE(
          !there || &reader == first || same_bits(reader.record(model), first->record(model)),
          "merge = ", reader.path(), ", must agree with ", first->path(), " on model ", model);
    }
  }

  std::vector<SweepReader> readers_;
};

}  // namespace

bool compute_models(const SweepOptions& options, const std::vector<int64_t>& models,
                    const std::function<void(int64_t, ModelRecord)>& take,
                    const std::function<bool()>& stop) {
  const int64_t threads = resolved_threads(options.threads);
  std::mutex guard;
  try {
    for (const auto& group : grouped(options, models)) {
      const FeatureSet features = make_features(group.features, threads, stop);
      parallel_for(static_cast<int64_t>(group.models.size()), threads, [&](int64_t i) {
        const int64_t model = group.models[static_cast<size_t>(i)];
        ModelRecord record = run_model(options, model_at(options, model), features, stop);
        const std::lock_guard lock(guard);
        take(model, std::move(record));
      });
    }
  } catch (const Stopped&) {
    return false;
  }
  return true;
}

SweepFile open_sweep_file(const SweepOptions& options) {
  std::error_code ignored;
  if (options.resume && std::filesystem::exists(options.out, ignored)) {
    return SweepFile::resume(options.out, options);
  }
  return SweepFile::create(options.out, options, options.overwrite);
}

std::vector<int64_t> missing_models(const SweepOptions& options, const SweepFile& file) {
  const auto wanted = models_of_shard(options);
  std::vector<int64_t> missing;
  std::copy_if(wanted.begin(), wanted.end(), std::back_inserter(missing),
               [&](int64_t model) { return !file.complete()[static_cast<size_t>(model)]; });
  return missing;
}

SweepResult run_sweep(const SweepOptions& options, SweepObserver* observer) {
  check_sweep_options(options);
  SweepObserver nobody;
  SweepObserver& watching = observer != nullptr ? *observer : nobody;
  SweepFile file = open_sweep_file(options);
  const auto models = missing_models(options, file);
  SweepResult result;
  SweepStatus& status = result.status;
  status.total = static_cast<int64_t>(models.size());
  status.there = std::count(file.complete().begin(), file.complete().end(), true);
  const auto start = std::chrono::steady_clock::now();
  const auto take = [&](int64_t model, const ModelRecord& record) {
    file.add(model, record);
    ++status.done;
    status.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    watching.progressed(status);
  };
  watching.begin(status);
  result.stopped =
      !compute_models(options, models, take, [&watching] { return watching.wants_stop(); });
  return result;
}

MergeResult merge_sweeps(const SweepOptions& options) {
  TORCH_CHECK_VALUE(!options.merge.empty(), "merge = \"\", must name one or more sweeps");
  const MergeSources sources(options.merge);
  SweepFile file = SweepFile::create(options.out, sources.options(), options.overwrite);
  MergeResult result;
  result.models = models_in(sources.options());
  for (int64_t model = 0; model < result.models; ++model) {
    if (const SweepReader* holder = sources.holder(model)) {
      file.add(model, holder->record(model));
      ++result.complete;
    }
  }
  return result;
}

}  // namespace gradist::rf
