# Libraries, headers and the CMake package, so that another project can say find_package(gradist): component
# "development". The program is component "program"; the Python wheel takes component "python" alone.

include(CMakePackageConfigHelpers)

get_property(gradist_libraries GLOBAL PROPERTY GRADIST_LIBRARIES)
install(
  TARGETS ${gradist_libraries}
  EXPORT gradistTargets
  ARCHIVE COMPONENT development
  FILE_SET HEADERS DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/gradist" COMPONENT development
)

set(gradist_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/gradist")
install(EXPORT gradistTargets NAMESPACE gradist:: DESTINATION "${gradist_package_dir}" COMPONENT development)

configure_package_config_file(
  cmake/gradistConfig.cmake.in "${PROJECT_BINARY_DIR}/gradistConfig.cmake" INSTALL_DESTINATION "${gradist_package_dir}"
)
write_basic_package_version_file(
  "${PROJECT_BINARY_DIR}/gradistConfigVersion.cmake" COMPATIBILITY SameMinorVersion
)
install(
  FILES "${PROJECT_BINARY_DIR}/gradistConfig.cmake" "${PROJECT_BINARY_DIR}/gradistConfigVersion.cmake"
        cmake/FindLibTorch.cmake
  DESTINATION "${gradist_package_dir}"
  COMPONENT development
)

if(TARGET gradist_program)
  install(TARGETS gradist_program RUNTIME COMPONENT program)
endif()
