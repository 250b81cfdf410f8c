/**
 * A worker that leaves at the host's word (PROTOCOL.md §14): the order as a provider gives it, the relay, the worker that asks, and
 * hosts that are absent, wrong or hostile.
 */
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type RunningRelay, startRelay } from '../../client/endorsement-relay.js'
import { leaveWhenAsked } from '../../enclave/drain-watch.js'
import { askRelay, parseRelayAddress, type RelayAddress } from '../../enclave/relay-stream.js'
import { type Bytes, toBytes, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import {
  encodeDrainAnswer,
  encodeDrainQuestion,
  MAX_DRAIN_ANSWER_BYTES,
  parseDrainAnswer,
  parseDrainQuestion,
} from '../../verifier/protocol/drain-exchange.js'
import { encodeAnswer, encodeQuestion, framed } from '../../verifier/protocol/endorsement-exchange.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { chatRequest, eventsOf, MODEL, stubEngine } from '../enclave/stub.js'
import { subrosa } from '../support/command.js'
import { type RunningWorker, sealedTo, startWorker } from '../support/worker.js'

const BOOT = toBytes(new Uint8Array(32).fill(7))

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-drain-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

let names = 0
const fresh = (what: string): string => join(folder, `${++names}.${what}`)

const relayWith = (drain?: string): Promise<RunningRelay> =>
  startRelay(
    { listen: `unix:${fresh('sock')}`, files: [], offline: true, ...(drain === undefined ? {} : { drain }) },
    { fetch },
  )

/** What the relay says to that boot. */
const said = async ({ address }: RunningRelay, boot: Bytes): Promise<boolean> =>
  parseDrainAnswer(await askRelay(parseRelayAddress(address), encodeDrainQuestion(boot), 20_000))

describe('a worker told to leave', () => {
  it('ends its stream whole, begins nothing new, and goes; another worker of that host stays', async () => {
    let release = (): void => undefined
    const gate = new Promise<void>((resolve) => {
      release = resolve
    })
    let steps = 0
    const slow = stubEngine({ step: () => (steps++ < 2 ? Promise.resolve() : gate) })
    const workers: RunningWorker[] = []
    for (const engine of [slow, stubEngine()]) {
      workers.push(await startWorker({ simulatedGpus: 0, engine: { engine, model: MODEL } }))
    }
    const [old, other] = workers as [RunningWorker, RunningWorker]
    const orders = fresh('drain')
    const relay = await relayWith(orders)
    const relays = [parseRelayAddress(relay.address)]
    let gone = (): void => undefined
    const left = new Promise<void>((resolve) => {
      gone = resolve
    })
    const soon = (_: number, then: () => void): void => void setTimeout(then, 20)
    leaveWhenAsked({ relays, worker: old, left: gone, after: soon })
    let othersRounds = 0
    leaveWhenAsked({
      relays,
      worker: other,
      left: () => expect.unreachable('the other worker was not told'),
      after: (ms, then) => {
        othersRounds += 1
        soon(ms, then)
      },
    })

    const { response } = await askedOf(old)
    const first = await (await askedOf(other)).response.text()
    expect(eventsOf(first).at(-1)).toBe('[DONE]')

    const { status, stdout } = await subrosa('drain', old.url, '--file', orders)
    expect(stdout).toContain(toHex(await old.bootId()))
    expect([status, await readFile(orders, 'utf8')]).toEqual([0, `${toHex(await old.bootId())}\n`])
    while ((await fetch(`${old.url}/readyz`)).status !== 503) await new Promise((resolve) => setTimeout(resolve, 10))
    const refused = await fetch(`${old.url}/ohttp`, { method: 'POST', body: 'x' })
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1'])

    release()
    expect(eventsOf(await response.text()).at(-1)).toBe('[DONE]')
    await left
    await expect(fetch(`${old.url}/healthz`)).rejects.toThrow()
    const before = othersRounds
    while (othersRounds < before + 2) await new Promise((resolve) => setTimeout(resolve, 10))
    expect((await fetch(`${other.url}/readyz`)).status).toBe(200)
    await other.close()
    await relay.close()
  })

  it('goes even where it cannot end in order', async () => {
    const relay = await lying((socket) => socket.end(framed(encodeDrainAnswer(true))))
    const worker = { ...steady(), close: () => Promise.reject(new Error('stuck')) }
    await new Promise<void>((left) => leaveWhenAsked({ relays: relay.all.slice(0, 1), worker, left }))
    relay.close()
  })
})

async function askedOf(worker: RunningWorker) {
  const send = await sealedTo(worker)
  const body = { model: MODEL.id, messages: [{ role: 'user', content: 'x' }], stream: true }
  return send(chatRequest(JSON.stringify(body)))
}

describe('the order', () => {
  it('comes from the operator’s file alone, whatever guests send (P-14.5)', async () => {
    const orders = fresh('drain')
    const relay = await relayWith(orders)
    expect(await said(relay, BOOT)).toBe(false)
    for (const frame of [encodeDrainAnswer(true), utf8(toHex(BOOT)), encodeQuestion({ gpus: [BOOT], switches: [] })]) {
      await askRelay(parseRelayAddress(relay.address), toBytes(frame), 5000).catch(() => undefined)
    }
    expect(await said(relay, BOOT)).toBe(false)
    await writeFile(orders, `${'00'.repeat(32)}\n${toHex(BOOT)}\n`)
    expect(await said(relay, BOOT)).toBe(true)
    expect(await said(relay, toBytes(new Uint8Array(32).fill(8)))).toBe(false)
    await writeFile(orders, toHex(BOOT).slice(2))
    expect(await said(relay, BOOT)).toBe(false)
    await relay.close()
  })

  it('is for nobody where no file was named', async () => {
    const relay = await relayWith()
    expect(await said(relay, BOOT)).toBe(false)
    await relay.close()
  })

  it('says what stands in its way', async () => {
    const worker = await startWorker({ simulatedGpus: 0, engine: { engine: stubEngine(), model: MODEL } })
    const unwritable = await subrosa('drain', worker.url, '--file', join(folder, 'nowhere', 'drain'))
    expect([unwritable.status, unwritable.stdout]).toEqual([2, ''])
    expect(unwritable.stderr).toMatch(/--file: cannot write/)
    await worker.close()
    const absent = await subrosa('drain', worker.url, '--file', fresh('drain'))
    expect(absent.status).toBe(4)
    expect((await subrosa('drain', worker.url)).status).toBe(2)
  })
})

const steady = () => ({ bootId: async () => BOOT, drain: async () => true, close: async () => undefined })

/** A relay of one behaviour, by every kind of socket. */
async function lying(behave: (socket: Socket) => void) {
  const path = fresh('sock')
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', () => behave(socket))
  }).listen(path)
  await once(server, 'listening')
  const all: readonly RelayAddress[] = [
    { kind: 'unix', path },
    { kind: 'native-unix', path },
  ]
  return { all, close: () => void server.close() }
}

/** Waits between the first rounds of a worker with those relays; it fails when the worker leaves. */
async function waits(relays: readonly RelayAddress[], rounds: number, random = () => 1 - Number.EPSILON) {
  const seen: number[] = []
  await new Promise<void>((resolve) =>
    leaveWhenAsked({
      relays,
      worker: steady(),
      left: () => expect.unreachable('nobody told it to leave'),
      timeoutMs: 300,
      random,
      after: (ms, then) => {
        seen.push(Math.round(ms))
        if (seen.length < rounds) then()
        else resolve()
      },
    }),
  )
  return seen
}

describe('a host that is absent, wrong or hostile (P-14.2, P-14.4)', () => {
  it.each([
    ['answers with more than an answer', (socket: Socket) => socket.end(framed(new Uint8Array(65)))],
    ['announces four gigabytes', (socket: Socket) => socket.end(Buffer.alloc(4, 0xff))],
    ['ends early', (socket: Socket) => socket.end(framed(encodeDrainAnswer(true)).subarray(0, 20))],
    [
      'answers another question',
      (socket: Socket) => socket.end(framed(encodeAnswer({ endorsements: [], missing: [] }))),
    ],
    ['never answers', () => undefined],
    ['hangs up', (socket: Socket) => socket.destroy()],
  ])('and %s: the worker stays, and asks again later', async (_, behave) => {
    const relay = await lying(behave)
    for (const address of relay.all) expect(await waits([address], 2)).toEqual([10_000, 20_000])
    relay.close()
  })

  it('waits longer after each failure, up to a minute, and is quick again after an answer', async () => {
    const nobody: readonly RelayAddress[] = [{ kind: 'unix', path: join(folder, 'nobody') }]
    expect(await waits(nobody, 6)).toEqual([10_000, 20_000, 40_000, 60_000, 60_000, 60_000])
    expect(await waits(nobody, 1, () => 0)).toEqual([5000])
    let rounds = 0
    const relay = await lying((socket) => {
      if (rounds++ < 2) socket.destroy()
      else socket.end(framed(encodeDrainAnswer(false)))
    })
    expect(await waits(relay.all.slice(0, 1), 4)).toEqual([10_000, 20_000, 5000, 5000])
    // The second is asked where the first is none.
    expect(await waits([...nobody, ...relay.all], 1)).toEqual([5000])
    relay.close()
  })

  it('asks nobody where no relay was named', () => {
    const worker = { ...steady(), bootId: () => expect.unreachable('it asked') }
    leaveWhenAsked({ relays: [], worker, left: () => undefined })
  })
})

describe('questions and answers', () => {
  it('are read back, and anything else is refused', () => {
    expect(parseDrainQuestion(encodeDrainQuestion(BOOT))).toEqual(BOOT)
    expect([true, false].map((drain) => parseDrainAnswer(encodeDrainAnswer(drain)))).toEqual([true, false])
    expect(encodeDrainAnswer(false).length).toBeLessThanOrEqual(MAX_DRAIN_ANSWER_BYTES)
    expect(parseDrainQuestion(encodeQuestion({ gpus: [], switches: [] }))).toBeUndefined()
    expect(() => parseDrainAnswer(encodeDrainQuestion(BOOT))).toThrow(FormatError)
    expect(() => encodeDrainQuestion(BOOT.slice(1))).toThrow(RangeError)
  })

  it('of random bytes are refused and nothing worse', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 140 }), (bytes) => {
        for (const parse of [parseDrainQuestion, parseDrainAnswer]) {
          try {
            expect(parse(bytes)).toBeUndefined()
          } catch (error) {
            expect(error).toBeInstanceOf(FormatError)
          }
        }
      }),
    )
  })
})
