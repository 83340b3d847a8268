#pragma once

#include <ATen/Parallel.h>

namespace gradist::test {

/// Sets the number of threads and puts the former one back.
class Threads {
 public:
  explicit Threads(int count) : former_(at::get_num_threads()) { at::set_num_threads(count); }
  ~Threads() { at::set_num_threads(former_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int former_;
};

}  // namespace gradist::test
