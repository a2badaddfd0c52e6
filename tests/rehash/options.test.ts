import { test } from 'uvu'
import * as assert from 'uvu/assert'
import { OptionError } from '../../lib/errors.js'
import { formatRehash, parseRehash, type RehashOptions } from '../../lib/rehash/options.js'

test('texts of the command line', () => {
  const texts: [string, RehashOptions][] = [
    ['13', { policy: 'forecast', fullSteps: 13 }],
    ['paper', { policy: 'paper' }],
    ['paper:13', { policy: 'paper', fullSteps: 13 }],
    ['every-n:9,storage=f16', { policy: 'every-n', fullSteps: 9, storage: 'f16' }],
    ['threshold=0.08', { policy: 'threshold', threshold: 0.08 }],
    ['threshold:0.08', { policy: 'threshold', threshold: 0.08 }],
    ['forecast, speedup=2', { policy: 'forecast', speedup: 2 }],
    ['speedup=2.5', { policy: 'forecast', speedup: 2.5 }],
    ['paper,at=0/1/4', { policy: 'paper', at: [0, 1, 4] }],
    [
      'paper,full=5,feature=up_blocks.2.motion_modules.1,map=a/b.json',
      { policy: 'paper', fullSteps: 5, feature: 'up_blocks.2.motion_modules.1', map: 'a/b.json' },
    ],
  ]
  for (const [text, options] of texts) {
    assert.equal(parseRehash(text), options, text)
    assert.equal(parseRehash(formatRehash(options)), options, text)
    assert.equal(parseRehash(options), options)
    assert.is(formatRehash(parseRehash(formatRehash(options))), formatRehash(options))
  }
  for (const none of ['off', false, undefined] as const) assert.is(parseRehash(none), undefined)
  assert.is(formatRehash(undefined), 'off')
})

test('what is wrong is refused by name', () => {
  const wrong: [unknown, RegExp][] = [
    ['', /expected paper, every-n, forecast, threshold/],
    ['paper:x', /fullSteps: expected a number, got x/],
    ['paper:1.5', /fullSteps: expected an integer/],
    ['paper:0', /fullSteps/],
    ['twice:3', /got twice:3/],
    ['paper:3,paper', /got paper/],
    ['paper,depth=3', /got depth=3/],
    ['paper,full=3,full=4', /full once/],
    ['paper:3,speedup=2', /one of fullSteps, at, threshold, speedup, got fullSteps and speedup/],
    ['threshold', /a threshold with the policy threshold, got none/],
    ['threshold:-1', /threshold: expected a number of at least 0/],
    ['paper,threshold=0.1', /policy: expected threshold where a threshold is given/],
    ['speedup=0.5', /speedup: expected a number of at least 1/],
    ['paper,at=0/2/2', /rising order/],
    ['paper,at=1/2', /the first 0/],
    ['paper,storage=f8', /storage: expected f32, f16, int8, got f8/],
    ['paper,feature=', /feature: expected a name/],
    [{ policy: 'none' }, /policy/],
    [{ storages: 'f16' }, /got storages/],
    [{ at: 3 }, /at: expected steps/],
    [3, /expected options, a text or false, got number/],
    [null, /got/],
  ]
  for (const [wish, message] of wrong)
    assert.throws(
      () => parseRehash(wish as string),
      (e: Error) => e instanceof OptionError && message.test(e.message),
      `${JSON.stringify(wish)}`,
    )
})

test.run()
