/**
 * Reads colour and motion off videos of one moving shape on an even ground, as `models/moving-shapes` draws them. Frames are planes
 * [3, height, width] in [-1, 1].
 */

export const colours = {
  red: [230, 40, 40],
  green: [40, 190, 70],
  blue: [50, 90, 235],
  yellow: [245, 215, 50],
  purple: [160, 60, 200],
  white: [245, 245, 245],
} as const
export type Colour = keyof typeof colours

export const motions = [
  'moving left',
  'moving right',
  'moving up',
  'moving down',
  'growing',
  'shrinking',
] as const
export type Motion = (typeof motions)[number]

export interface Shown {
  colour?: Colour
  motion?: Motion
}

/** What is far from the ground, of 0 to 1 per channel. */
const far = 0.3
/** Pixels that a shape has at least. */
const fewest = 12
/** Pixels of way from the first to the last frame, or factor of area, that count as motion. */
const leastWay = 8
const leastGrowth = 1.6

/** Colour and motion that a video shows; what it does not show clearly is left out. */
export function whatIsShown(frames: readonly Float32Array[], height: number, width: number): Shown {
  const marks = frames
    .map(frame => shapeOf(frame, height, width))
    .filter(mark => mark !== undefined)
  if (marks.length < frames.length / 2) return {}
  const sum = [0, 1, 2].map(c =>
    marks.reduce((total, { paint, area }) => total + paint[c]! * area, 0),
  )
  const area = marks.reduce((total, mark) => total + mark.area, 0)
  const paint = sum.map(value => value / area)
  const [colour] = (Object.entries(colours) as [Colour, readonly number[]][])
    .map(
      ([name, rgb]) => [name, rgb.reduce((d, v, c) => d + (v / 255 - paint[c]!) ** 2, 0)] as const,
    )
    .reduce((best, other) => (other[1] < best[1] ? other : best))
  return { colour, ...motionOf(marks) }
}

interface Mark {
  x: number
  y: number
  area: number
  /** Mean colour, 0 to 1. */
  paint: number[]
}

function motionOf(marks: readonly Mark[]): { motion?: Motion } {
  // A line through all frames: one odd frame decides nothing.
  const wayX = slope(marks.map(({ x }) => x)) * (marks.length - 1)
  const wayY = slope(marks.map(({ y }) => y)) * (marks.length - 1)
  const growth = Math.exp(slope(marks.map(({ area }) => Math.log(area))) * (marks.length - 1))
  const way = Math.max(Math.abs(wayX), Math.abs(wayY))
  if (way >= leastWay) {
    if (Math.abs(wayX) > Math.abs(wayY))
      return { motion: wayX > 0 ? 'moving right' : 'moving left' }
    return { motion: wayY > 0 ? 'moving down' : 'moving up' }
  }
  if (growth >= leastGrowth) return { motion: 'growing' }
  return growth <= 1 / leastGrowth ? { motion: 'shrinking' } : {}
}

function slope(values: readonly number[]): number {
  const middle = (values.length - 1) / 2
  const mean = values.reduce((a, b) => a + b, 0) / values.length
  let top = 0
  let bottom = 0
  values.forEach((value, i) => {
    top += (i - middle) * (value - mean)
    bottom += (i - middle) ** 2
  })
  return bottom === 0 ? 0 : top / bottom
}

/** Centre, area and paint of what stands out from the ground, the median of the border. */
function shapeOf(frame: Float32Array, height: number, width: number): Mark | undefined {
  const size = height * width
  const at = (c: number, i: number) => frame[c * size + i]! / 2 + 0.5
  const border: number[] = []
  for (let i = 0; i < size; i++) {
    const [x, y] = [i % width, Math.floor(i / width)]
    if (x === 0 || y === 0 || x === width - 1 || y === height - 1) border.push(i)
  }
  const ground = [0, 1, 2].map(c => {
    const sorted = border.map(i => at(c, i)).sort((a, b) => a - b)
    return sorted[sorted.length >> 1]!
  })
  const mark: Mark = { x: 0, y: 0, area: 0, paint: [0, 0, 0] }
  for (let i = 0; i < size; i++) {
    const distance = Math.max(...ground.map((value, c) => Math.abs(at(c, i) - value)))
    if (distance < far) continue
    mark.x += i % width
    mark.y += Math.floor(i / width)
    mark.area++
    for (let c = 0; c < 3; c++) mark.paint[c]! += at(c, i)
  }
  if (mark.area < fewest) return undefined
  const { x, y, area, paint } = mark
  return { x: x / area, y: y / area, area, paint: paint.map(value => value / area) }
}
