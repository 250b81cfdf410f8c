/** A lane counts what it asked, and passes only if it asked something; names it was given are known, or nothing runs. */
import { describe, expect, it } from 'vitest'
import { createLane, namesGiven } from '../../scripts/image/lane.js'
import { FLAVOURS } from '../../scripts/image/places.js'

describe('a lane', () => {
  const lane = () => createLane('a-lane', () => undefined)

  it('fails when nothing was asked', () => {
    expect(lane().finish()).toBe(1)
  })

  it('passes when everything held, and fails when one thing did not', async () => {
    const one = lane()
    await one.check('holds', async () => '')
    expect(one.finish()).toBe(0)
    await one.check('does not', () => Promise.reject(new Error('no')))
    expect(one.finish()).toBe(1)
  })
})

describe('a check under an emulator that breaks down', () => {
  const BROKEN = "expected a panic, got qemu-system-x86_64: hw/a.c:228: f: Assertion `a <= b * 16' failed.\n"

  it.each([
    ['once', [BROKEN], 0, 2],
    ['twice', [BROKEN, BROKEN], 1, 2],
    ['never, and fails otherwise', ['expected a panic, got Assertion failed'], 1, 1],
  ])('%s', async (_, errors, status, expected) => {
    const lines: string[] = []
    const lane = createLane('a-lane', (line) => void lines.push(line))
    let runs = 0
    await lane.check('boots', async () => {
      const error = errors[runs++]
      if (error !== undefined) throw new Error(error)
      return ''
    })
    expect([lane.finish(), runs]).toEqual([status, expected])
    expect(lines.filter((line) => line.startsWith('again boots: ')).length).toBe(expected - 1)
  })
})

describe('names given to a lane', () => {
  it('are taken in its order, and are all of them by default', () => {
    expect(namesGiven('x', FLAVOURS, ['test', 'production'])).toEqual(['production', 'test'])
    expect(namesGiven('x', FLAVOURS, [])).toEqual(FLAVOURS)
  })

  it('are refused by name when one is unknown', () => {
    const lines: string[] = []
    expect(namesGiven('image:check', ['a', 'b'], ['a', 'c'], (line) => void lines.push(line))).toBeUndefined()
    expect(lines).toEqual(['image:check: expected a, b or nothing, got c\n'])
  })
})
