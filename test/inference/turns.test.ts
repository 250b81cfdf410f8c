import { describe, expect, it } from 'vitest'
import { createTurns } from '../../enclave/inference/turns.js'

const hasCode = (code: string): object => expect.objectContaining({ code })

function gate(): { readonly passed: Promise<void>; readonly open: () => void } {
  let open = (): void => {}
  const passed = new Promise<void>((resolve) => {
    open = resolve
  })
  return { passed, open }
}

describe('turns', () => {
  it('run one step at a time, in the order of asking', async () => {
    const turns = createTurns()
    const log: string[] = []
    const step = (name: string) => async (): Promise<string> => {
      log.push(`${name} begins`)
      await Promise.resolve()
      log.push(`${name} ends`)
      return name
    }
    expect(await Promise.all(['a', 'b', 'c'].map((name) => turns.take(step(name))))).toEqual(['a', 'b', 'c'])
    expect(log).toEqual(['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends'])
  })

  it('pass on after a step that fails', async () => {
    const turns = createTurns()
    const failing = turns.take(() => Promise.reject(new Error('no')))
    const next = turns.take(async () => 'yes')
    await expect(failing).rejects.toThrow('no')
    expect(await next).toBe('yes')
  })

  it('an aborted request leaves the queue while another step runs', async () => {
    const turns = createTurns()
    const controller = new AbortController()
    const { passed, open } = gate()
    const running = turns.take(() => passed)
    const waiting = turns.take(async () => 'ran', controller.signal)
    const behind = turns.take(async () => 'behind')
    controller.abort()
    await expect(waiting).rejects.toThrowError(hasCode('aborted'))
    open()
    await running
    expect(await behind).toBe('behind')
  })

  it('close refuses those who wait, and waits for the one that runs', async () => {
    const turns = createTurns()
    const { passed, open } = gate()
    let finished = false
    const started = gate()
    const running = turns.take(async () => {
      started.open()
      await passed
      finished = true
    })
    const refused = expect(turns.take(async () => {})).rejects.toThrowError(hasCode('closed'))
    await started.passed
    const closing = turns.close()
    await refused
    expect(finished).toBe(false)
    open()
    await closing
    expect(finished).toBe(true)
    await running
    await expect(turns.take(async () => {})).rejects.toThrowError(hasCode('closed'))
  })
})
