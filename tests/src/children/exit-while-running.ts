// Leaves the process in the middle of a run, in the way that LEAVE names.
import { native } from '../../../lib/runtime/native.js'
import { unaryStream } from '../support.js'

const stream = unaryStream(1_000_000, 100, 320, 'gelu')
const start = () => {
  const arena = native().createBlock('cpu', 2 * 100 * 320 * 4)
  return stream.run(arena, null, new Float64Array(0), 2, leave)
}
const jobs = [start(), start()]

function leave(): void {
  if (process.env.LEAVE === 'exit') process.exit(0)
  if (process.env.LEAVE === 'throw')
    process.nextTick(() => {
      throw new Error('uncaught')
    })
  if (process.env.LEAVE === 'abort') for (const job of jobs) job.abort()
}

const ends = await Promise.allSettled(jobs.map(({ done }) => done))
console.log(ends.map(end => (end.status === 'rejected' ? end.reason.code : 'done')).join(' '))
