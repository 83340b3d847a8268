#pragma once

#include <ATen/Context.h>
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <string>

/// Tests that run on every device there is. A CUDA test without a device is skipped by name.
namespace gradist::test {

/// Whether torch finds a CUDA device; torch's CUDA library is loaded for it, once.
inline bool has_cuda_device() {
  static const bool found = [] {
    if (!at::hasCUDA()) dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
    return at::hasCUDA() && at::detail::getCUDAHooks().deviceCount() > 0;
  }();
  return found;
}

class OnDevice : public ::testing::TestWithParam<at::DeviceType> {
 protected:
  void SetUp() override {
    if (GetParam() == at::kCUDA && !has_cuda_device()) {
      const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
      GTEST_SKIP() << test->test_suite_name() << "." << test->name() << ": no CUDA device";
    }
  }
};

inline auto all_devices() { return ::testing::Values(at::kCPU, at::kCUDA); }

inline std::string device_name(const ::testing::TestParamInfo<at::DeviceType>& info) {
  return info.param == at::kCUDA ? "Cuda" : "Cpu";
}

}  // namespace gradist::test
