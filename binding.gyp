# node-gyp is only the messenger: the native build is defined in CMakeLists.txt.
{
  'variables': { 'sluice_cuda%': '<!(node -p "process.env.SLUICE_CUDA || \'OFF\'")' },
  'targets': [{
    'target_name': 'sluice',
    'type': 'none',
    'actions': [{
      'action_name': 'cmake',
      'message': 'building sluice with CMake',
      'inputs': [],
      'outputs': ['<(PRODUCT_DIR)/sluice.node'],
      'action': [
        'cmake',
        '-DSOURCE=<(module_root_dir)',
        '-DNODE_INC=<(node_root_dir)/include/node',
        '-DCONFIG=<(CONFIGURATION_NAME)',
        '-DSLUICE_CUDA=<(sluice_cuda)',
        '-P', '<(module_root_dir)/scripts/build.cmake'
      ]
    }]
  }]
}
