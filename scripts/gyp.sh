#!/bin/sh
# Stands in for node-gyp under prebuildify: builds with CMake and the headers of node-api-headers, so
# that a prebuild needs neither gyp, Python nor Node's download site. prebuildify runs it in
# build/prebuild and strips and moves what it finds there, which leaves build/Release as it is.
set -e
here=$(pwd)
cd "$(dirname "$0")/.."
node scripts/toolchain.cjs
cmake -DSOURCE=. -DCONFIG=Release -DSLUICE_CUDA="${SLUICE_CUDA:-OFF}" \
  -DNODE_INC="$(node -p "require('node-api-headers').include_dir")" -P scripts/build.cmake
mkdir -p "$here/build/Release"
rm -f "$here"/build/Release/*
cp build/Release/sluice.node "$here/build/Release/"
for plugin in build/Release/*.so; do
  if [ -e "$plugin" ]; then cp "$plugin" "$here/build/Release/"; fi
done
