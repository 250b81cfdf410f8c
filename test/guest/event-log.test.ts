import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ownEvent, readEventLog, withoutPadding } from '../../enclave/platforms/event-log.js'
import { extendRuntimeRegister } from '../../enclave/platforms/tdx-registers.js'
import { type Bytes, concat, toBytes, toHex } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { sha384 } from '../../verifier/protocol/hash.js'
import { extend, parseEventLog } from '../../verifier/tdx/event-log.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'

const FACTS = { configuration: new Uint8Array(48).fill(1), model: new Uint8Array(32).fill(2) }

/** Registers as the kernel has them: a write extends. */
function registers(options: { readonly broken?: 'ignored' | 'refused' | 'interfered' } = {}) {
  let value: Bytes = new Uint8Array(48)
  return {
    value: () => value,
    async read() {
      return value
    },
    async write(_: string, bytes: Bytes) {
      if (options.broken === 'refused') throw Object.assign(new Error('no'), { code: 'EINVAL' })
      if (options.broken === 'ignored') return
      value = extend(value, bytes)
      if (options.broken === 'interfered') value = extend(value, bytes)
    },
  }
}

describe.skipIf(withoutVectors)(`event logs${withoutVectors ? ' (captured evidence is not here)' : ''}`, () => {
  const area = (): Bytes => new Uint8Array(readFileSync(vectorPath('tdx', 'ccel-ovmf-64k.bin')))

  it('lose their padding and nothing else: a verifier replays the same registers', () => {
    const whole = parseEventLog(area())
    const cut = withoutPadding(area())
    expect(cut.length).toBeLessThan(area().length)
    expect(parseEventLog(cut)).toEqual(whole)
  })

  it('take the worker’s own events behind the firmware’s, and a verifier finds them covered', async () => {
    const file = registers()
    const events = await extendRuntimeRegister(FACTS, file)
    expect(events).toHaveLength(2)
    const log = parseEventLog(toBytes(concat(withoutPadding(area()), ...(events ?? []).map(({ record }) => record))))
    expect(toHex(log.rtmrs[3])).toBe(toHex(file.value()))
    const own = log.events.filter(({ register }) => register === 3)
    expect(own.map(({ coverage }) => coverage)).toEqual(['covered', 'covered'])
    expect(new TextDecoder().decode(own[1]?.data.slice(0, 13))).toBe('subrosa.model')
  })
})

describe('event logs, hostile', () => {
  it('are refused or cut, whatever they hold', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        try {
          expect(withoutPadding(new Uint8Array(bytes)).length).toBeLessThanOrEqual(bytes.length)
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError)
        }
      }),
    )
  })

  it('are left out where the machine has none that can be read', async () => {
    expect(await readEventLog({ read: async () => new Uint8Array(8) })).toBeUndefined()
    const missing = { read: () => Promise.reject(new Error('ENOENT')) }
    expect(await readEventLog(missing)).toBeUndefined()
  })
})

describe('runtime registers', () => {
  it('are left alone on a kernel that offers none', async () => {
    const none = { read: () => Promise.reject(new Error('ENOENT')), write: () => Promise.reject(new Error('never')) }
    expect(await extendRuntimeRegister(FACTS, none)).toBeUndefined()
  })

  it.each(['ignored', 'refused', 'interfered'] as const)('are not believed when an extension is %s', async (broken) => {
    await expect(extendRuntimeRegister(FACTS, registers({ broken }))).rejects.toMatchObject({ code: 'worker.platform' })
  })

  it('are extended with the hash of name and value', () => {
    const { digest } = ownEvent('a', Uint8Array.of(1))
    expect(digest).toEqual(sha384(Uint8Array.of(0x61, 0, 1)))
  })
})
