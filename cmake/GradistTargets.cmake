# gradist_add_library(), gradist_add_test(): every library and every test is made by these two.

add_library(gradist_pch OBJECT "${PROJECT_SOURCE_DIR}/cmake/torch_pch.cpp")
target_link_libraries(gradist_pch PRIVATE gradist_compile_flags LibTorch::LibTorch)
target_precompile_headers(gradist_pch PRIVATE "${PROJECT_SOURCE_DIR}/cmake/torch_pch.h")

# gradist_compile_like_all(<target>): the common flags and the common precompiled header.
function(gradist_compile_like_all target)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:gradist_compile_flags> $<BUILD_INTERFACE:LibTorch::LibTorch>)
  target_precompile_headers(${target} REUSE_FROM gradist_pch)
endfunction()

#[[
gradist_add_library(<folder> [SOURCES <file>...] [HEADERS <file>...] [DEPENDS <folder>...] [PRIVATE_DEPENDS <target>...])

One folder of src as a static library gradist_<folder>, alias gradist::<folder>. HEADERS are public, included as
"<folder>/x.h" from the build tree and, under include/gradist, from an installation. DEPENDS names other folders.
Without SOURCES the library is header-only.
#]]
function(gradist_add_library folder)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;HEADERS;DEPENDS;PRIVATE_DEPENDS")
  set(target gradist_${folder})
  set(visibility PUBLIC)
  if(arg_SOURCES)
    add_library(${target} STATIC ${arg_SOURCES})
    gradist_compile_like_all(${target})
    target_link_libraries(${target} PRIVATE ${arg_PRIVATE_DEPENDS})
  else()
    add_library(${target} INTERFACE)
    set(visibility INTERFACE)
  endif()
  add_library(gradist::${folder} ALIAS ${target})
  list(TRANSFORM arg_DEPENDS PREPEND gradist_)
  target_link_libraries(${target} ${visibility} LibTorch::LibTorch ${arg_DEPENDS})
  target_include_directories(
    ${target} ${visibility} "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>"
                            "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/gradist>"
  )
  target_compile_features(${target} ${visibility} cxx_std_20)
  target_sources(
    ${target} ${visibility} FILE_SET HEADERS BASE_DIRS "${PROJECT_SOURCE_DIR}/src" FILES ${arg_HEADERS}
  )
  set_target_properties(
    ${target} PROPERTIES EXPORT_NAME ${folder} VERIFY_INTERFACE_HEADER_SETS ${GRADIST_VERIFY_HEADERS}
  )
  set_property(GLOBAL APPEND PROPERTY GRADIST_LIBRARIES ${target})

  cmake_path(RELATIVE_PATH CMAKE_CURRENT_SOURCE_DIR BASE_DIRECTORY "${PROJECT_SOURCE_DIR}/src" OUTPUT_VARIABLE here)
  foreach(header IN LISTS arg_HEADERS)
    cmake_path(SET path NORMALIZE "${here}/${header}")
    set_property(GLOBAL APPEND PROPERTY GRADIST_PUBLIC_HEADERS "${path}")
  endforeach()
endfunction()

#[[
gradist_add_test(<name> SOURCES <file>... [DEPENDS <target>...])

One GoogleTest program test_<name>, and one ctest entry of that name for all its cases (a start of LibTorch each costs
more than most cases). Tests are small: one thread beats two.
#]]
function(gradist_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;DEPENDS")
  if(NOT arg_SOURCES)
    return()
  endif()
  set(target test_${name})
  add_executable(${target} ${arg_SOURCES})
  gradist_compile_like_all(${target})
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  target_link_libraries(${target} PRIVATE ${arg_DEPENDS} GTest::gmock GTest::gtest_main)
  add_test(NAME ${name} COMMAND ${target})
  set_tests_properties(${name} PROPERTIES ENVIRONMENT OMP_NUM_THREADS=1)
endfunction()
