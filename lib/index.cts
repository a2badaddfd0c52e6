// The CommonJS entry: hands out the ES module, which require() can load from Node 20.19 on.
import type * as sluice from './index.js' with { 'resolution-mode': 'import' }

function load(): typeof sluice {
  try {
    return require('../bundle/index.js')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_REQUIRE_ESM') throw error
    throw new Error(
      `sluice: require() expected Node 20.19 or newer, got ${process.version}; update Node, or use await import('sluice')`,
    )
  }
}

export = load()
