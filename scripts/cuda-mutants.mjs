// Mutants of the CUDA kernels and streams: what is planted where. All mutants of a file live in one text, each
// behind `mutant(N)`, so that one compilation serves them all and a run chooses its mutant.

/** Ways in which the sources of kernels are changed: `find` matches a site, `make` gives its wrong twins by name. */
const RULES = [
  { find: /\bblock_sync\(\);/, kind: 'barrier', make: () => ({ 'left out': '' }) },
  { find: /\bwarp_sync\(\);/, kind: 'warp barrier', make: () => ({ 'left out': '' }) },
  { find: /\bptx::copy_commit\(\);/, kind: 'commit', make: () => ({ 'left out': '' }) },
  {
    find: /\bptx::copy_wait<([^>]+)>\(\);/,
    kind: 'wait',
    make: ([, left]) => ({ 'left out': '', 'one group more': `ptx::copy_wait<${left} + 1>();` }),
  },
  // Which stage, which block of the depth or of the keys.
  {
    find: /\bblock % (\w+)(?= \*)/,
    kind: 'stage',
    // A ring of stages that is turned as a whole would be the same ring: it is made smaller.
    make: ([, n]) =>
      n === 'kStages'
        ? { 'a stage too few': `(block % (${n} - 1))` }
        : { 'the next': `((block + 1) % ${n})` },
  },
  {
    find: /\bstage_of\((\w+)\)(?!;?$| \{)/,
    kind: 'stage',
    make: ([, b]) => ({ 'the next': `stage_of(${b} + 1)`, 'the one after': `stage_of(${b} + 2)` }),
  },
  {
    find: /\b(fetch|deliver)\((\w+(?: \+ 1)?)\);/,
    kind: 'stage',
    make: ([, call, b]) => ({ 'the next': `${call}(${b} + 1);`, 'left out': '' }),
  },
  {
    find: /\bblock \+ kStages - 1\b/,
    kind: 'stage',
    make: () => ({ 'one too near': '(block + kStages - 2)', 'one too far': '(block + kStages)' }),
  },
  {
    find: /\bring \+ Tile::kStageElements\b/,
    kind: 'stage',
    make: () => ({ 'the first': 'ring' }),
  },
  {
    find: /\bblock < kStages - 1\b/,
    kind: 'loop',
    make: () => ({ 'one stage less': '(block < kStages - 2)' }),
  },
  {
    find: /\b(block \+ 1|next) < blocks\b/,
    kind: 'loop',
    make: ([, n]) => ({ 'one block less': `(${n} + 1 < blocks)` }),
  },
  {
    find: /\bround == 0 \|\| blocks > 1\b/,
    kind: 'loop',
    make: () => ({
      'the first round alone': '(round == 0)',
      'with many blocks alone': '(blocks > 1)',
    }),
  },
  // What lanes exchange.
  {
    find: /\bshuffle_xor\((\w+), (\w+)\)/,
    kind: 'shuffle',
    make: ([, x, m]) => ({ 'left out': x, 'another lane': `shuffle_xor(${x}, ${m} * 2 % 32)` }),
  },
  {
    find: /\bshuffle\((\w+), (\w+)\)/,
    kind: 'shuffle',
    make: ([, x, l]) => ({ 'left out': x, 'another lane': `shuffle(${x}, ${l} + 1)` }),
  },
  {
    find: /\b(mask|half) > 0\b/,
    kind: 'shuffle',
    make: ([, m]) => ({ 'without the last step': `(${m} > 1)` }),
  },
  {
    find: /(?<=(?:mask|half) = )([^;]+?) \/ 2(?=;)/,
    kind: 'shuffle',
    make: ([, all]) => ({ 'without the first step': `(${all} / 4)` }),
  },
  // Rows of matrices that lanes name.
  {
    find: /\blane \/ 16\b/,
    kind: 'matrix row',
    make: () => ({ 'the other matrix': '(1 - lane / 16)' }),
  },
  {
    find: /\blane % 16\b/,
    kind: 'matrix row',
    make: () => ({ 'another row': '((lane % 16) ^ 1)' }),
  },
  {
    find: /\blane \/ 8 % 2\b/,
    kind: 'matrix row',
    make: () => ({ 'the other matrix': '(1 - lane / 8 % 2)' }),
  },
  {
    find: /\blane % 8\b/,
    kind: 'matrix row',
    make: () => ({ 'another row': '((lane % 8) ^ 1)' }),
  },
  // Rings of compute capability 9.0: barriers in shared memory, boxes, products of groups of warps.
  {
    find: /\bptx::barrier_wait\((ring\.barriers, ring\.\w+\(at\.stage\)), at\.parity( \^ 1)?\);/,
    kind: 'wait',
    make: ([, which, flip]) => ({
      'left out': '',
      'the other parity': `ptx::barrier_wait(${which}, at.parity${flip ? '' : ' ^ 1'});`,
    }),
  },
  {
    find: /\bptx::barrier_expect\((ring\.barriers, \w+), Tile::kStageBytes\);/,
    kind: 'arrival',
    make: ([, which]) => ({
      'left out': '',
      'no bytes': `ptx::barrier_arrive(${which});`,
      'fewer bytes': `ptx::barrier_expect(${which}, Tile::kStageBytes - Tile::kInputElements * 2);`,
      'more bytes': `ptx::barrier_expect(${which}, Tile::kStageBytes + 16);`,
    }),
  },
  {
    find: /\bptx::barrier_arrive\(ring\.barriers, ring\.empty\(before\)\);/,
    kind: 'arrival',
    make: () => ({
      'left out': '',
      'of the next stage': 'ptx::barrier_arrive(ring.barriers, ring.empty(at.stage));',
      'of the other barrier': 'ptx::barrier_arrive(ring.barriers, ring.full(before));',
    }),
  },
  {
    find: /\bblock > 0 && speaks\b/,
    kind: 'arrival',
    make: () => ({ 'a block too early': 'speaks', 'by every lane': '(block > 0)' }),
  },
  {
    find: /\bptx::barrier_init\((ring\.barriers, ring\.\w+\(stage\)), (1|Tile::kWarps)\);/,
    kind: 'arrival',
    make: ([, which, count]) => ({
      'left out': '',
      'one more': `ptx::barrier_init(${which}, ${count} + 1);`,
      ...(count === '1' ? {} : { 'one less': `ptx::barrier_init(${which}, ${count} - 1);` }),
    }),
  },
  {
    find: /\bptx::(async|product)_fence\(\);/,
    kind: 'fence',
    make: () => ({ 'left out': '' }),
  },
  { find: /\bptx::product_commit\(\);/, kind: 'commit', make: () => ({ 'left out': '' }) },
  {
    find: /\bptx::product_wait<(\w+)>\(\);/,
    kind: 'wait',
    make: ([, left]) => ({
      'left out': '',
      'one group more': `ptx::product_wait<${left} + 1>();`,
    }),
  },
  {
    find: /\bptx::group_sync\(1, ([^;]+)\);/,
    kind: 'barrier',
    make: ([, threads]) => ({
      'left out': '',
      'for half': `ptx::group_sync(1, ${threads} / 2);`,
    }),
  },
  {
    find: /\bptx::(give|take)_registers<[^;]+>\(\);/,
    kind: 'registers',
    make: () => ({ 'left out': '' }),
  },
  { find: /\bptx::load_box\([^;]+\);/, kind: 'box', make: () => ({ 'left out': '' }) },
  {
    find: /\bplace\.(right|below) \+ (tap_\w+)/,
    kind: 'box',
    make: ([, step, tap]) => ({ 'not shifted': `place.${step}`, 'of the first pixels': tap }),
  },
  {
    find: /\bring\.(input|weights)\(at\.stage\)/,
    kind: 'stage',
    make: ([, which]) => ({ 'the next': `ring.${which}((at.stage + 1) % Tile::kStages)` }),
  },
  { find: /\bat\.advance\(\);/, kind: 'stage', make: () => ({ 'left out': '' }) },
  {
    find: /\bstage = 0, parity \^= 1;/,
    kind: 'stage',
    make: () => ({ 'the same parity': 'stage = 0;' }),
  },
  {
    find: /\bptx::matrix_at\((k\w+Form), (\w+), ([^,()]+)\)/,
    kind: 'matrix',
    make: ([, form, of, at]) => ({
      'the other form': `ptx::matrix_at(${form === 'kInputForm' ? 'kWeightForm' : 'kInputForm'}, ${of}, ${at})`,
      'always the first': `ptx::matrix_at(${form}, ${of}, 0)`,
    }),
  },
  {
    find: /\bgroup \* Tile::kProducts \* 64 \* kBoxChannels\b/,
    kind: 'matrix',
    make: () => ({ 'the first rows': '0' }),
  },
  {
    find: /\bptx::load_matrices(_transposed)?\((?=\s*[a-z])/,
    kind: 'matrix',
    make: ([, t]) => ({ 'read the other way': `ptx::load_matrices${t ? '' : '_transposed'}(` }),
    call: true,
  },
  // Streams: what the host and other streams wait for, which commands come after which.
  {
    find: /(?<=SLUICE_CUDA_TRY\(complaint, |code = |return |[?:] )cuda(Stream|Event)(WaitEvent|Record|Synchronize)\(/,
    kind: 'stream wait',
    make: () => ({ 'left out': 'cudaSuccess' }),
    expression: true,
  },
  {
    find: /\blane\.copies\.join_all\(/,
    kind: 'stream wait',
    make: () => ({ 'left out': 'cudaSuccess' }),
    expression: true,
  },
  {
    find: /(?<=\(last, )done\[j\]/,
    kind: 'stream order',
    make: () => ({ "a copy's begin": 'int32_t(j)' }),
  },
  {
    find: /\bmine\.written \|\| other\.written\b/,
    kind: 'stream order',
    make: () => ({ 'after writes alone': 'other.written', 'writes alone': 'mine.written' }),
  },
]

/** Mutants that are no defects, by file, site and what was done, and why. */
export const EQUIVALENT = {
  'queue.cu cudaEventSynchronize( left out':
    'more than two segments are then under way: an abort waits longer',
  'queue.cu cudaEventRecord( left out':
    'more than two segments are then under way: an abort waits longer',
  'kernel_streams.cu cudaStreamSynchronize( left out':
    'the main stream has waited for the other; it matters after a failure alone',
  'copies.cu cudaStreamSynchronize( left out':
    'the main stream has waited for the copies; it matters after a failure alone',
}

/** End of the bracket that opens at `open`, one past it. */
function closing(text, open) {
  let depth = 0
  for (let i = open; i < text.length; i++) {
    if (text[i] === '(') depth++
    else if (text[i] === ')' && --depth === 0) return i + 1
  }
  throw new Error('expected brackets in pairs')
}

/** The text with comments blanked out, of the same length. */
const code = text =>
  text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, comment => comment.replace(/[^\n]/g, ' '))

/** A site's text with its mutants: statements keep their place in an if, expressions in an expression. */
function switched(original, twins) {
  const statement = original.endsWith(';')
  if (statement) {
    const cases = twins.map(({ number, text }) => `if (::mutant(${number})) { ${text} } else `)
    return `{ ${cases.join('')}{ ${original} } }`
  }
  return `(${twins.map(({ number, text }) => `::mutant(${number}) ? ${text} : `).join('')}${original})`
}

/**
 * Plants every mutant of one source.
 * @param file its path, for the mutants' names
 * @param first the first mutant's number
 * @returns the text, and a mutant a wrong twin: number, file, line, kind, what and the site's text
 */
export function plant(file, text, first) {
  const plain = code(text)
  const mutants = []
  const changes = []
  for (const { find, kind, make, call, expression } of RULES) {
    for (const match of plain.matchAll(new RegExp(find, 'g'))) {
      const begin = match.index
      const after = begin + match[0].length
      const end = call || expression ? closing(plain, after - 1) : after
      const original = text.slice(begin, end) + (call ? ';' : '')
      const rest = text.slice(after, end)
      const twins = Object.entries(make(match)).map(([what, twin]) => {
        const number = first + mutants.length
        const line = text.slice(0, begin).split('\n').length
        mutants.push({ number, file, line, kind, what, site: match[0] })
        return { number, text: call ? `${twin}${rest};` : twin }
      })
      changes.push({ begin, end: call ? end + 1 : end, original, twins, call })
    }
  }
  return { text: apply(text, changes), mutants }
}

/** Makes the changes, from the innermost out: a call's may hold others'. */
function apply(text, changes) {
  changes.sort((a, b) => b.begin - a.begin || a.end - b.end)
  let out = text
  for (const change of changes) {
    const inside = changes.filter(
      o => o !== change && o.begin >= change.begin && o.end <= change.end,
    )
    const grown = inside.reduce((sum, o) => sum + (o.grown ?? 0), 0)
    const original = out.slice(change.begin, change.end + grown)
    const twins = change.call
      ? change.twins.map(twin => ({
          ...twin,
          // The arguments as they are by now, with the mutants inside them.
          text: twin.text.slice(0, twin.text.indexOf('(')) + original.slice(original.indexOf('(')),
        }))
      : change.twins
    const made = switched(original, twins)
    change.grown = made.length - original.length
    out = out.slice(0, change.begin) + made + out.slice(change.end + grown)
  }
  return out
}
