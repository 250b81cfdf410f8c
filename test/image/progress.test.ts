/** Progress of long work: a bar on a terminal, a line now and then elsewhere. */
import { describe, expect, it } from 'vitest'
import { createProgress } from '../../scripts/image/progress.js'

function shown(isTTY: boolean, steps: number, stepMs: number): string {
  let text = ''
  let now = 0
  const output = {
    isTTY,
    write: (piece: string | Uint8Array) => {
      text += String(piece)
      return true
    },
  }
  const progress = createProgress('the kernel', 10, output, () => now)
  for (let i = 0; i < steps; i++) {
    now += stepMs
    progress.step()
  }
  progress.end()
  return text
}

describe('progress', () => {
  it('is a bar on a terminal, full only at the end', () => {
    const text = shown(true, 12, 1000)
    expect(text.split('\r')[5]).toBe(`  [${'#'.repeat(15)}${'.'.repeat(15)}] 5 steps, 5 s `)
    expect(text).not.toContain('#'.repeat(30))
    expect(text).toMatch(/\nimage: the kernel: 12 s\n$/)
  })

  it('is a line every half minute elsewhere', () => {
    expect(shown(false, 9, 10_000)).toBe(
      [
        'image: the kernel',
        'image: the kernel: 3 of about 10 steps, 30 s',
        'image: the kernel: 6 of about 10 steps, 60 s',
        'image: the kernel: 9 of about 10 steps, 90 s',
        'image: the kernel: 90 s',
        '',
      ].join('\n'),
    )
  })
})
