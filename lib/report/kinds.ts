/** How the page names and explains what a plan holds. */
export interface Kind {
  readonly id: string
  readonly label: string
  readonly meaning: string
}

/** Kinds of buffers, in the order in which they are stacked. */
export const kinds: readonly Kind[] = [
  {
    id: 'state',
    label: 'state',
    meaning: 'kept from the first run to the last: inputs, latents, outputs',
  },
  {
    id: 'whole',
    label: 'whole tensor',
    meaning: 'passed from one group to another, or kept for a later one',
  },
  { id: 'band', label: 'band', meaning: 'some rows of a tensor, with a lifetime of their own' },
  {
    id: 'slice',
    label: 'sub-feature',
    meaning: 'what one slice of a group holds of a tensor; the next slice reuses it',
  },
  {
    id: 'inner',
    label: 'inner sub-feature',
    meaning: 'what one inner slice, inside a slice, holds of a tensor',
  },
  { id: 'slab', label: 'slab', meaning: 'rows gathered from several bands for one op' },
  { id: 'scratch', label: 'scratch', meaning: 'workspace of one op' },
  { id: 'other', label: 'other', meaning: 'any other memory' },
]

/** Axes that groups are sliced along, as the page colours them; `other` for the rest. */
export const axisNames = ['frames', 'rows', 'columns', 'tokens', 'channels', 'other'] as const

/** Words of the page, for who meets them first. */
export const glossary: readonly (readonly [string, string])[] = [
  [
    'arena',
    'the one block of memory that a stage runs in; every tensor is a place in it, fixed before the run',
  ],
  [
    'weights',
    'the network’s parameters, packed in a block of their own beside the arena while their stage runs',
  ],
  ['peak', 'the most bytes that a stage needs: its arena and its weights'],
  ['lower bound', 'the most bytes alive in one step; no arrangement of the arena can be smaller'],
  [
    'group',
    'consecutive operators that run slice by slice, so that of what passes between them only one slice is alive',
  ],
  [
    'slice',
    'one part of a group’s work along frames, rows or tokens; slicing does not change the result',
  ],
  [
    'step',
    'one operator in the order in which they run; a sliced operator runs as several commands',
  ],
]
