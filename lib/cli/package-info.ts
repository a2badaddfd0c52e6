import { readFileSync } from 'node:fs'

/** `version` of package.json, which stands beside dist/. */
export function packageVersion(): string {
  const file = new URL('../../../package.json', import.meta.url)
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
}
