# Tests of the sources themselves, and of the installation.

get_property(gradist_public_headers GLOBAL PROPERTY GRADIST_PUBLIC_HEADERS)
list(JOIN gradist_public_headers "\n" gradist_public_headers)
set(public_headers "${CMAKE_CURRENT_BINARY_DIR}/public_headers.txt")
file(WRITE "${public_headers}" "${gradist_public_headers}\n")

set(include_order "${CMAKE_CURRENT_SOURCE_DIR}/include_order.cmake")
add_test(
  NAME include_order
  COMMAND "${CMAKE_COMMAND}" "-DROOT=${PROJECT_SOURCE_DIR}" "-DPUBLIC_HEADERS=${public_headers}" -P "${include_order}"
)
set(rule 0)
foreach(
  complaint IN
  ITEMS "goes_up.h:5: #include models/mlp.h: gradients must not include models"
        "goes_up.h:3: #include torch/torch.h: include the narrow header instead"
        "goes_up.h:4: #include Eigen/Dense: torch is the only third party in public headers"
)
  math(EXPR rule "${rule} + 1")
  add_test(
    NAME include_order_complains_${rule}
    COMMAND "${CMAKE_COMMAND}" "-DROOT=${CMAKE_CURRENT_SOURCE_DIR}/include_order" -P "${include_order}"
  )
  set_tests_properties(include_order_complains_${rule} PROPERTIES PASS_REGULAR_EXPRESSION "${complaint}")
endforeach()

# Every version of clang-format formats a little differently: one version counts (it is in the Python test requirements).
set(clang_format_version 14)
find_program(GRADIST_CLANG_FORMAT NAMES clang-format clang-format-${clang_format_version} HINTS "${PROJECT_SOURCE_DIR}/.venv/bin")
mark_as_advanced(GRADIST_CLANG_FORMAT)
set(found_version "none")
if(GRADIST_CLANG_FORMAT)
  execute_process(COMMAND "${GRADIST_CLANG_FORMAT}" --version OUTPUT_VARIABLE found_version OUTPUT_STRIP_TRAILING_WHITESPACE)
endif()
if(found_version MATCHES "version ${clang_format_version}\\.")
  add_test(
    NAME format
    COMMAND "${CMAKE_COMMAND}" "-DROOT=${PROJECT_SOURCE_DIR}" "-DCLANG_FORMAT=${GRADIST_CLANG_FORMAT}" -P
            "${CMAKE_CURRENT_SOURCE_DIR}/format.cmake"
  )
else()
  add_test(
    NAME format COMMAND "${CMAKE_COMMAND}" -E echo "SKIPPED: needs clang-format ${clang_format_version}, found ${found_version}"
  )
endif()
set_tests_properties(format PROPERTIES SKIP_REGULAR_EXPRESSION "SKIPPED: ")

if(GRADIST_INSTALL)
  add_test(
    NAME install
    COMMAND
      "${CMAKE_COMMAND}" "-DBUILD_DIR=${PROJECT_BINARY_DIR}" "-DSOURCE_DIR=${CMAKE_CURRENT_SOURCE_DIR}/install"
      "-DWORK_DIR=${CMAKE_CURRENT_BINARY_DIR}/installed" "-DGENERATOR=${CMAKE_GENERATOR}" "-DCXX=${CMAKE_CXX_COMPILER}"
      "-DCXX_FLAGS=${CMAKE_CXX_FLAGS}" -P "${CMAKE_CURRENT_SOURCE_DIR}/install/run.cmake"
  )
endif()
