# SPDX-License-Identifier: MIT
# `cmake --install` installs the library, its headers, the files that users of CMake and pkg-config
# need, and the command with its completions.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set_target_properties(lplb PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
set(_libraries lplb)
foreach(_rail lplb_nvshmem lplb_gin)
  if(TARGET ${_rail})
    list(APPEND _libraries ${_rail})
  endif()
endforeach()
install(TARGETS ${_libraries} EXPORT lplbTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/lplb
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/lplb)
install(EXPORT lplbTargets NAMESPACE lplb:: DESTINATION ${_package_dir})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/lplbConfig.cmake.in
  ${PROJECT_BINARY_DIR}/lplbConfig.cmake INSTALL_DESTINATION ${_package_dir})
# Before 1.0 a new minor version may break users.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/lplbConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/lplbConfig.cmake ${PROJECT_BINARY_DIR}/lplbConfigVersion.cmake
  DESTINATION ${_package_dir})

# NOTE: the prefix is relative to the file, so that the installed tree can be moved.
file(RELATIVE_PATH _pc_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" _pc_prefix "${_pc_prefix}")
configure_file(${CMAKE_CURRENT_LIST_DIR}/lplb.pc.in ${PROJECT_BINARY_DIR}/lplb.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/lplb.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

if(TARGET lplb_command)
  install(TARGETS lplb_command DESTINATION ${CMAKE_INSTALL_BINDIR})
  # install_output(PATH ARGUMENT...): installs the output of `lplb ARGUMENT...` as PATH.
  function(install_output path)
    get_filename_component(_folder ${path} DIRECTORY)
    get_filename_component(_name ${path} NAME)
    string(JOIN " " _arguments ${ARGN})
    string(MAKE_C_IDENTIFIER "${_arguments}" _file)
    set(_file ${PROJECT_BINARY_DIR}/${_file})
    install(CODE "execute_process(COMMAND \"$<TARGET_FILE:lplb_command>\" ${_arguments}
      OUTPUT_FILE \"${_file}\" COMMAND_ERROR_IS_FATAL ANY)")
    install(FILES ${_file} DESTINATION ${_folder} RENAME ${_name})
  endfunction()
  install_output(${CMAKE_INSTALL_DATADIR}/bash-completion/completions/lplb completion bash)
  install_output(${CMAKE_INSTALL_DATADIR}/zsh/site-functions/_lplb completion zsh)
  install_output(${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d/lplb.fish completion fish)
  install_output(${CMAKE_INSTALL_MANDIR}/man1/lplb.1 --help-man)
endif()
