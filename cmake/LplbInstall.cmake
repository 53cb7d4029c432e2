message(FATAL_ERROR "cmake/LplbInstall.cmake is missing")
