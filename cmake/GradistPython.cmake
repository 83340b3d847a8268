# The interpreter whose torch is used: scikit-build-core's, or the one given as Python_EXECUTABLE, or .venv, or the system's.

if(NOT Python_EXECUTABLE AND EXISTS "${PROJECT_SOURCE_DIR}/.venv/bin/python")
  set(Python_EXECUTABLE "${PROJECT_SOURCE_DIR}/.venv/bin/python")
endif()

if(GRADIST_PYTHON)
  find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)
  if(NOT pybind11_DIR)
    execute_process(
      COMMAND "${Python_EXECUTABLE}" -m pybind11 --cmakedir
      OUTPUT_VARIABLE gradist_pybind11_dir
      OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
    )
    set(pybind11_DIR "${gradist_pybind11_dir}" CACHE PATH "Folder of pybind11Config.cmake")
  endif()
  set(PYBIND11_FINDPYTHON ON)
  find_package(pybind11 3.0 REQUIRED CONFIG)
else()
  find_package(Python 3.11 COMPONENTS Interpreter)
endif()
