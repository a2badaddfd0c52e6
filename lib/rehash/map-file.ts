import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { FileError } from '../errors.js'
import { asFileError, replaceFile } from '../io/atomic.js'
import type { SimilarityMap } from './similarity.js'

/** What `sluice rehash measure` writes: maps of one checkpoint under one scheduler, averaged over prompts. */
export interface MapDocument {
  readonly format: 'sluice-rehash-map'
  readonly version: 1
  /** The scheduler's class, and the time steps that the network was given. */
  readonly scheduler: string
  readonly timesteps: readonly number[]
  readonly prompts: readonly string[]
  readonly seeds: readonly number[]
  /** By the feature's module path. */
  readonly features: Readonly<Record<string, SimilarityMap>>
}

/** Decimals that are kept: the differences between steps are some thousandths. */
const decimals = 5

/** Writes a map, whole or not at all. @throws FileError */
export async function writeMap(path: string, document: MapDocument): Promise<void> {
  const rounded = (rows: SimilarityMap['cosine']) =>
    rows.map(row => row.map(value => Number(value.toFixed(decimals))))
  const features = Object.fromEntries(
    Object.entries(document.features).map(([name, { cosine, relativeL1 }]) => [
      name,
      { cosine: rounded(cosine), relativeL1: rounded(relativeL1) },
    ]),
  )
  // One line a row: a file that can be read and compared.
  const text = JSON.stringify({ ...document, features }, undefined, 1).replace(
    /\[[-\d\s.,e]*\]/g,
    row => row.replace(/\s+/g, ' '),
  )
  await replaceFile(path, temporary => writeFile(temporary, `${text}\n`))
}

/** @throws FileError for a file that is absent or is no map */
export function readMap(path: string): MapDocument {
  let document: MapDocument
  try {
    document = JSON.parse(readFileSync(path, 'utf8')) as MapDocument
  } catch (error) {
    const known = asFileError(error, path, 'read')
    throw known instanceof FileError ? known : refused(path, (error as Error).message)
  }
  const { format, version, timesteps, features } = document ?? {}
  if (format !== 'sluice-rehash-map' || version !== 1) throw refused(path, 'another file')
  const steps = Array.isArray(timesteps) ? timesteps.length : 0
  const square = (rows: unknown) =>
    Array.isArray(rows) &&
    rows.length === steps &&
    rows.every(
      row =>
        Array.isArray(row) && row.length === steps && row.every(value => Number.isFinite(value)),
    )
  const maps = Object.values(features ?? {})
  if (
    steps < 1 ||
    maps.length < 1 ||
    !maps.every(map => square(map?.cosine) && square(map?.relativeL1))
  )
    throw refused(path, 'maps that do not fit its time steps')
  return document
}

function refused(path: string, got: string): FileError {
  return new FileError(
    `${path}: expected a similarity map, got ${got}; make it with sluice rehash measure`,
    path,
  )
}
