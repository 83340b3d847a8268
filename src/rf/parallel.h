#pragma once

#include <cstdint>
#include <functional>

namespace gradist::rf {

/// Calls work(i) once for every i in [0, count) on up to `threads` threads. A thread that is done
/// takes the next i that nobody has, so no thread waits while there is work. After an exception no
/// new i is begun, and the first one is thrown here.
void parallel_for(int64_t count, int64_t threads, const std::function<void(int64_t)>& work);

/// 0: one thread for every processor this process may run on.
int64_t resolved_threads(int64_t threads);

}  // namespace gradist::rf
