/** Which boots a set of images allows. The boots themselves are `npm run image:boot`. */
import { describe, expect, it } from 'vitest'
import { BOOT_SUITES, bootSuites, suitesOf } from '../../scripts/image/boot.js'
import { createLane } from '../../scripts/image/lane.js'
import { FLAVOURS } from '../../scripts/image/places.js'

describe('suites', () => {
  it('are those that need no flavour besides', () => {
    expect(suitesOf(FLAVOURS)).toEqual(BOOT_SUITES)
    expect(suitesOf(['test'])).toEqual(['test', 'sealed'])
    expect(suitesOf([])).toEqual([])
  })

  it('boot nothing in place of an image that was not built, and say which it was', async () => {
    const lines: string[] = []
    await bootSuites(
      createLane('a-lane', (line) => void lines.push(line)),
      ['sealed', 'plain'],
      new Map(),
    )
    expect(lines).toEqual([
      'skip  boots of plain: there is no developer image to boot\n',
      'skip  boots of sealed: there is no test image to boot\n',
    ])
  })
})
