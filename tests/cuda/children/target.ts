// Prints what plans for the first device of this process are made for.
import { resolveDevice } from '../../../lib/runtime/device.js'

console.log(JSON.stringify(resolveDevice('auto', 1).target))
