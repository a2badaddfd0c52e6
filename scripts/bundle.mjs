// What users load: the package's two entries as few files, since Node takes most of its time to start with opening modules.
// Packages stay apart, and so do commands of the command line until they are asked for.
//   node scripts/bundle.mjs
import { rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const ROOT = fileURLToPath(new URL('..', import.meta.url))

rmSync(`${ROOT}/dist/bundle`, { recursive: true, force: true })
await build({
  absWorkingDir: ROOT,
  entryPoints: { index: 'dist/lib/index.js', main: 'dist/lib/cli/main.js' },
  outdir: 'dist/bundle',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  packages: 'external',
  keepNames: true,
  logLevel: 'warning',
})
