#pragma once

#include "data/dataset.h"

#include <filesystem>
#include <string>

namespace gradist {

/// Images in a folder a class: `train/<class>/*` and `test/<class>/*` (or `val/` for `test/`), each
/// file a PNG or JPEG by its content; files whose names begin with a dot are passed over. Classes
/// are the folders of `train`, by name; all images must be of the size of the first. All are grey,
/// one channel, or colours, three, among which a grey one has three equal channels. Every image is
/// decoded once before anything is returned, so that a damaged one is found; with `options.stream`
/// each is decoded again when its example is asked for.
DataSplit store_image_folder(const DataOptions& options);

/// A line for `data info`; "" where the folder has no `train`.
std::string describe_image_folder(const std::filesystem::path& folder);

}  // namespace gradist
