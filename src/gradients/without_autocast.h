#pragma once

#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

namespace gradist {

/// While it lives, operations of this thread compute in the types of their operands, whatever
/// autocast is on for the caller's own: products and sums of factors are as exact as their types.
struct WithoutAutocast {
  c10::impl::ExcludeDispatchKeyGuard guard{c10::autocast_dispatch_keyset};
};

}  // namespace gradist
