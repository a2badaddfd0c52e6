/** What the device is, and what a process pays for its context before it takes any memory. */
import { formatBytes } from '../../../lib/units.js'
import { tell } from '../child.js'
import { driverView, found } from '../device.js'

const before = driverView()
const device = found()
const used = device.memoryBytes - device.freeBytes
const contextBytes = before && used - before.usedBytes
const context =
  contextBytes === undefined ? 'not known' : `${formatBytes(Math.max(0, contextBytes))}`
tell({
  passed: true,
  detail: `${device.name}, ${device.detail}, driver ${before?.driver ?? 'not known'}; context ${context}`,
  values: { ...device, driver: before?.driver, contextBytes },
})
