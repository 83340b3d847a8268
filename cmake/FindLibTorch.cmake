#[[
LibTorch as CMake targets, without the CUDA toolkit that the wheel's own TorchConfig.cmake asks for.

Looked for, in this order:
  GRADIST_TORCH_DIR   a folder with lib/libtorch_cpu.so and include/ (an unpacked LibTorch, or the wheel's torch/)
  CMAKE_PREFIX_PATH   the same, as prefixes
  Python_EXECUTABLE   the torch that this interpreter would import (it is located, not imported)

Targets:
  LibTorch::LibTorch      what C++ code links: torch_cpu, c10, both include folders, the C++ ABI of the build
  LibTorch::c10_cuda      torch's CUDA streams, for own kernels; only where torch is a CUDA build (LibTorch_CUDA_VERSION)
  LibTorch::torch_python  the Python side (tensor casters); only where the wheel has it

A CUDA build of torch links without CUDA: nothing here names libtorch_cuda. A program that wants device "cuda" loads
libtorch_cuda.so at run time (it lies in LibTorch_LIBRARY_DIR, which is on the program's rpath).
torch brings its own libgomp, found by torch's rpath, and LibTorch::LibTorch links that one, so that code compiled with
-fopenmp (without it at::parallel_for is a plain loop) shares torch's threads; do not link the compiler's beside it.
#]]

set(GRADIST_TORCH_DIR "" CACHE PATH "Folder of LibTorch or of the wheel's torch package")

function(_libtorch_dir_of_python result)
  set(${result} "" PARENT_SCOPE)
  set(interpreter "${Python_EXECUTABLE}")
  if(NOT interpreter)
    find_program(LibTorch_PYTHON NAMES python3 python)
    mark_as_advanced(LibTorch_PYTHON)
    set(interpreter "${LibTorch_PYTHON}")
  endif()
  if(interpreter)
    execute_process(
      COMMAND "${interpreter}" -c "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
      OUTPUT_VARIABLE location
      OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
    )
    set(${result} "${location}" PARENT_SCOPE)
  endif()
endfunction()

function(_libtorch_find_core)
  find_library(LibTorch_CPU_LIBRARY torch_cpu PATH_SUFFIXES lib ${ARGN})
  find_library(LibTorch_C10_LIBRARY c10 PATH_SUFFIXES lib ${ARGN})
  find_path(LibTorch_INCLUDE_DIR ATen/ATen.h PATH_SUFFIXES include ${ARGN})
endfunction()

if(GRADIST_TORCH_DIR)
  _libtorch_find_core(PATHS "${GRADIST_TORCH_DIR}" NO_DEFAULT_PATH)
else()
  _libtorch_find_core()
  if(NOT LibTorch_CPU_LIBRARY)
    _libtorch_dir_of_python(_libtorch_python_dir)
    if(_libtorch_python_dir)
      _libtorch_find_core(PATHS "${_libtorch_python_dir}" NO_DEFAULT_PATH)
    endif()
  endif()
endif()

if(LibTorch_CPU_LIBRARY)
  get_filename_component(LibTorch_LIBRARY_DIR "${LibTorch_CPU_LIBRARY}" DIRECTORY)
  get_filename_component(LibTorch_DIR "${LibTorch_LIBRARY_DIR}" DIRECTORY)
  # The wheel calls it libgomp.so.1, an unpacked LibTorch libgomp-<hash>.so.1; a torch built here has the compiler's.
  file(GLOB _libtorch_openmp "${LibTorch_LIBRARY_DIR}/libgomp*.so*")
  if(_libtorch_openmp)
    list(GET _libtorch_openmp 0 LibTorch_OPENMP_LIBRARY)
  else()
    set(LibTorch_OPENMP_LIBRARY gomp)
  endif()
  find_library(LibTorch_C10_CUDA_LIBRARY c10_cuda PATHS "${LibTorch_LIBRARY_DIR}" NO_DEFAULT_PATH)
  set(LibTorch_CUDA_VERSION "")
  if(EXISTS "${LibTorch_DIR}/version.py")
    file(STRINGS "${LibTorch_DIR}/version.py" _libtorch_line REGEX "^cuda")
    string(REGEX MATCH "[0-9]+\\.[0-9]+" LibTorch_CUDA_VERSION "${_libtorch_line}")
  endif()
  find_library(LibTorch_PYTHON_LIBRARY torch_python PATHS "${LibTorch_LIBRARY_DIR}" NO_DEFAULT_PATH)
  set(_libtorch_config "${LibTorch_DIR}/share/cmake/Torch")
  if(EXISTS "${_libtorch_config}/TorchConfigVersion.cmake")
    file(STRINGS "${_libtorch_config}/TorchConfigVersion.cmake" _libtorch_line REGEX "set\\(PACKAGE_VERSION ")
    string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" LibTorch_VERSION "${_libtorch_line}")
  endif()
  set(LibTorch_CXX11_ABI 1)
  if(EXISTS "${_libtorch_config}/TorchConfig.cmake")
    file(STRINGS "${_libtorch_config}/TorchConfig.cmake" _libtorch_line REGEX "_GLIBCXX_USE_CXX11_ABI=0")
    if(_libtorch_line)
      set(LibTorch_CXX11_ABI 0)
    endif()
  endif()
endif()
mark_as_advanced(LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR LibTorch_PYTHON_LIBRARY
                 LibTorch_C10_CUDA_LIBRARY
)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  LibTorch
  REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE
    "Install the wheel (pip install 'torch==2.11.*') and pass -DPython_EXECUTABLE=..., or pass -DGRADIST_TORCH_DIR=<folder of LibTorch>."
)

if(LibTorch_FOUND AND NOT TARGET LibTorch::LibTorch)
  foreach(_libtorch_name IN ITEMS torch_cpu c10)
    add_library(LibTorch::${_libtorch_name} SHARED IMPORTED)
  endforeach()
  set_target_properties(LibTorch::torch_cpu PROPERTIES IMPORTED_LOCATION "${LibTorch_CPU_LIBRARY}")
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION "${LibTorch_C10_LIBRARY}")
  add_library(LibTorch::LibTorch INTERFACE IMPORTED)
  target_link_libraries(LibTorch::LibTorch INTERFACE LibTorch::torch_cpu LibTorch::c10 "${LibTorch_OPENMP_LIBRARY}")
  target_include_directories(
    LibTorch::LibTorch SYSTEM INTERFACE "${LibTorch_INCLUDE_DIR}" "${LibTorch_INCLUDE_DIR}/torch/csrc/api/include"
  )
  target_compile_definitions(LibTorch::LibTorch INTERFACE _GLIBCXX_USE_CXX11_ABI=${LibTorch_CXX11_ABI})
  if(LibTorch_C10_CUDA_LIBRARY)
    add_library(LibTorch::c10_cuda SHARED IMPORTED)
    set_target_properties(LibTorch::c10_cuda PROPERTIES IMPORTED_LOCATION "${LibTorch_C10_CUDA_LIBRARY}")
  endif()
  if(LibTorch_PYTHON_LIBRARY)
    add_library(LibTorch::torch_python SHARED IMPORTED)
    set_target_properties(LibTorch::torch_python PROPERTIES IMPORTED_LOCATION "${LibTorch_PYTHON_LIBRARY}")
    target_link_libraries(LibTorch::torch_python INTERFACE LibTorch::LibTorch)
  endif()
endif()
