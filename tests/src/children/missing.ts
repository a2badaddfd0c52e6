// Prints why there is no CUDA device.
import { native } from '../../../lib/runtime/native.js'

console.log(native().missing().cuda ?? 'there is one')
