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
