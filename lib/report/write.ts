import { writeFile } from 'node:fs/promises'
import { replaceFile } from '../io/atomic.js'
import { type ReportInput, reportData } from './data.js'
import { reportPage } from './page.js'

/** Writes the memory timeline of a plan as one self-contained HTML page, complete or not at all. @throws FileError */
export async function writeReport(path: string, input: ReportInput): Promise<void> {
  const page = reportPage(reportData(input))
  await replaceFile(path, temporary => writeFile(temporary, page))
}
