# Configures and builds CMakeLists.txt: the one way in for node-gyp and for the prebuild.
#   cmake -DSOURCE=. -DNODE_INC=<dir of node_api.h> [-DCONFIG=Release] [-DSLUICE_CUDA=OFF] -P build.cmake

# The make that node-gyp runs leaks its job server to the build below.
unset(ENV{MAKEFLAGS})
unset(ENV{MFLAGS})

if(NOT CONFIG)
  set(CONFIG Release)
endif()
set(CUDA -USLUICE_CUDA)
if(SLUICE_CUDA)
  set(CUDA -DSLUICE_CUDA=ON)
endif()
get_filename_component(SOURCE "${SOURCE}" ABSOLUTE)
set(TREE "${SOURCE}/build/cmake")

# A tree keeps the generator that it was made with.
set(GENERATOR)
find_program(NINJA ninja)
if(NINJA AND NOT EXISTS "${TREE}/CMakeCache.txt")
  set(GENERATOR -G Ninja)
endif()

cmake_host_system_information(RESULT CORES QUERY NUMBER_OF_LOGICAL_CORES)

execute_process(
  COMMAND "${CMAKE_COMMAND}" -S "${SOURCE}" -B "${TREE}" ${GENERATOR} -DCMAKE_BUILD_TYPE=${CONFIG}
          "-DNODE_INC=${NODE_INC}" ${CUDA}
  COMMAND_ERROR_IS_FATAL ANY)
execute_process(
  COMMAND "${CMAKE_COMMAND}" --build "${TREE}" --config ${CONFIG} --parallel ${CORES}
  COMMAND_ERROR_IS_FATAL ANY)
