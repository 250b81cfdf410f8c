/** One slice in each turn of the event loop, of whoever is next. */
import { setImmediate as turn } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { createBackground } from '../../enclave/inference/background.js'

it('takes one slice a turn, in turn, and says when one is done', async () => {
  const background = createBackground()
  const log: string[] = []
  const add = (name: string, slices: number): void => {
    let left = slices
    background.add(
      () => {
        log.push(name)
        return --left === 0
      },
      () => log.push(`${name}!`),
    )
  }
  add('a', 3)
  add('b', 1)
  expect(log).toEqual([])
  const turns: number[] = []
  for (let i = 0; i < 6; i++) {
    await turn()
    turns.push(log.filter((entry) => entry.length === 1).length)
  }
  expect(log).toEqual(['a', 'b', 'b!', 'a', 'a', 'a!'])
  expect(turns.every((count, i) => count - (turns[i - 1] ?? 0) <= 1)).toBe(true)
  add('c', 1)
  for (let i = 0; i < 2; i++) await turn()
  expect(log.slice(6)).toEqual(['c', 'c!'])
})

it('goes on with what a finished job adds', async () => {
  const background = createBackground()
  const log: number[] = []
  const add = (n: number): void =>
    background.add(
      () => true,
      () => {
        log.push(n)
        if (n < 3) add(n + 1)
      },
    )
  add(1)
  for (let i = 0; i < 8; i++) await turn()
  expect(log).toEqual([1, 2, 3])
})
