/**
 * Endorsements for a worker without a network, over real sockets: the makers' services, the relay on the host, the stapler in
 * the worker, and the verifier over what comes of it. And relays that lie.
 */
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type RelayFlags, type RunningRelay, startRelay } from '../../client/endorsement-relay.js'
import { createAttester } from '../../enclave/attester.js'
import { createKeyLadder } from '../../enclave/keys.js'
import { createLogger } from '../../enclave/log.js'
import { openMachine } from '../../enclave/machine.js'
import type { Platform } from '../../enclave/platforms/platform.js'
import { askRelay, parseRelayAddress, type RelayAddress } from '../../enclave/relay-stream.js'
import { createStapler, mergeStapled, type StaplerOptions } from '../../enclave/stapler.js'
import { createSimulatedGpus, type SimulatedGpus } from '../../scripts/simulated/gpu-platform.js'
import { createSimulatedSnpPlatform, type SimulatedSnpPlatform } from '../../scripts/simulated/snp-platform.js'
import { createSimulatedTdxPlatform } from '../../scripts/simulated/tdx-platform.js'
import { verifyEvidence } from '../../verifier/appraise.js'
import { resolvePolicy } from '../../verifier/policy.js'
import { MAX_ENDORSEMENTS } from '../../verifier/protocol/bundle.js'
import { type Bytes, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import {
  type EndorsementQuestion,
  encodeAnswer,
  encodeQuestion,
  framed,
  frameLength,
  MAX_ANSWER_BYTES,
  parseAnswer,
  parseQuestion,
} from '../../verifier/protocol/endorsement-exchange.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { standingInTheWay } from '../../verifier/result.js'
import { STATEMENT } from '../support/samples.js'
import { type Makers, startMakers } from './makers.js'

const now = new Date()
let folder: string
let snp: SimulatedSnpPlatform
let gpus: SimulatedGpus

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-relay-'))
  snp = await createSimulatedSnpPlatform({ hostData: STATEMENT.configDigest, now })
  gpus = createSimulatedGpus({ count: 1, now })
})
afterAll(() => rm(folder, { recursive: true, force: true }))

let sockets = 0
const freshSocket = (): string => join(folder, `${++sockets}.sock`)

function relayTo(makers: Pick<Makers, 'url'>, more: Partial<RelayFlags> = {}): Promise<RunningRelay> {
  const { url } = makers
  return startRelay(
    { listen: `unix:${freshSocket()}`, kds: url, pccs: url, rim: url, ocsp: url, ...more },
    { fetch, now: () => now, sleep: async () => undefined, storeFolder: join(folder, `store-${sockets}`) },
  )
}

const ask = async (relay: RunningRelay, question: EndorsementQuestion) =>
  parseAnswer(await askRelay(parseRelayAddress(relay.address), encodeQuestion(question), 20_000))

const kinds = (items: readonly { readonly type: string }[]): Record<string, number> => {
  const out: Record<string, number> = {}
  for (const { type } of items) out[type] = (out[type] ?? 0) + 1
  return out
}

const platformOf = (): Platform => ({
  name: 'configfs-tsm',
  kind: 'snp',
  simulated: false,
  hostData: STATEMENT.configDigest,
  attest: (reportData) => snp.attest(reportData),
  attestDevices: async (nonce) => ({ gpus: await gpus.attest(nonce), switches: [] }),
  endorsements: async () => [],
})

const log = createLogger({ write: () => undefined, now: () => now })

describe('the relay', () => {
  it('gives a worker with no network everything a strict verifier asks for (P-14.1)', async () => {
    const makers = await startMakers({ snp, gpus })
    const relay = await relayTo(makers)
    const machine = await openMachine({
      relays: [`unix:${join(folder, 'nobody.sock')}`, relay.address],
      now: () => now,
      log,
      detect: async () => platformOf(),
      openGpus: async () => undefined,
    })
    while ((await machine.platform.endorsements()).length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
    const seconds = (): number => now.getTime() / 1000
    const { bootId: _, keys: __, operatorKey: ___, ...statement } = STATEMENT
    const keys = await createKeyLadder({ now: seconds, statement })
    const attester = createAttester({ platform: machine.platform, keys, now: seconds, windowMs: 0 })
    const nonce = new Uint8Array(32).fill(9)
    const result = await verifyEvidence(await attester.bundle(nonce), {
      now,
      nonce,
      policy: resolvePolicy({
        schema: 'subrosa-policy/1',
        trustAnchors: [snp.rootsPem + gpus.rootsPem],
        allowNonVendorRoot: true,
        measurements: [{ digest: toHex(snp.measurement) }],
        model: { digests: [toHex(STATEMENT.model.weightsRoot)] },
      }),
    })
    expect(standingInTheWay(result).map(({ id }) => id)).toEqual([])
    expect(result.verdict).toBe('accepted')
    attester.close()
    await machine.close()
    await relay.close()
    await makers.close()
  })

  it('asks for the collateral of a TDX machine', async () => {
    const tdx = await createSimulatedTdxPlatform({ configDigest: new Uint8Array(48), now })
    const makers = await startMakers({ tdx })
    const relay = await relayTo(makers)
    const evidence = await tdx.attest(new Uint8Array(64))
    const { endorsements, missing } = await ask(relay, {
      cpu: { type: 'application/vnd.intel.tdx.quote', evidence },
      gpus: [],
      switches: [],
    })
    expect(missing).toEqual([])
    expect(kinds(endorsements)).toEqual({
      'application/pkix-cert': 2,
      'application/pkix-crl': 2,
      'application/json': 2,
    })
    await relay.close()
    await makers.close()
  })

  it('keeps what it fetched, and asks again only for what grows old', async () => {
    const makers = await startMakers({ snp, gpus })
    const relay = await relayTo(makers)
    const question = {
      cpu: { type: 'application/vnd.amd.sev-snp.report', evidence: await snp.attest(new Uint8Array(64)) },
      gpus: await gpus.attest(new Uint8Array(32)),
      switches: [],
    } as const
    const first = await ask(relay, question)
    const asked = makers.asked.length
    const second = await ask(relay, question)
    expect(second.endorsements.length).toBe(first.endorsements.length)
    expect(new Set(makers.asked.slice(asked))).toEqual(new Set(['POST /']))
    await relay.close()
    await makers.close()
  })

  it('says what it could not have, and gives the rest', async () => {
    const makers = await startMakers({
      snp,
      gpus,
      instead(path, response) {
        if (!path.startsWith('/v1/rim/')) return false
        response.writeHead(503).end()
        return true
      },
    })
    const relay = await relayTo(makers)
    const answer = await ask(relay, {
      cpu: { type: 'application/vnd.amd.sev-snp.report', evidence: await snp.attest(new Uint8Array(64)) },
      gpus: await gpus.attest(new Uint8Array(32)),
      switches: [],
    })
    expect(answer.missing.join()).toMatch(/503/)
    expect(kinds(answer.endorsements)).toMatchObject({ 'application/pkix-cert': 3, 'application/pkix-crl': 1 })
    await relay.close()
    await makers.close()
  })

  it('hands out files without a network', async () => {
    const file = join(folder, 'vcek.der')
    await writeFile(file, snp.endorsements[0] as Bytes)
    const relay = await startRelay(
      { listen: 'tcp:127.0.0.1:0', files: [file], offline: true },
      { fetch: () => Promise.reject(new Error('no network')) },
    )
    const { endorsements } = await ask(relay, { gpus: [], switches: [] })
    expect(endorsements).toEqual([{ type: 'application/pkix-cert', bytes: snp.endorsements[0] }])
    await relay.close()
    await expect(startRelay({ listen: 'tcp:127.0.0.1:0', offline: true }, { fetch })).rejects.toThrow(/--files/)
    await expect(startRelay({ listen: 'udp:1', offline: true }, { fetch })).rejects.toThrow(/--listen/)
  })

  it('fetches from the named services and from nowhere else (P-14.3)', async () => {
    const asked: string[] = []
    const relay = await startRelay(
      { listen: `unix:${freshSocket()}` },
      {
        storeFolder: join(folder, 'named'),
        fetch: async (input) => {
          asked.push(new URL(String(input)).origin)
          return new Response('', { status: 404 })
        },
      },
    )
    const answer = await ask(relay, {
      cpu: { type: 'application/vnd.amd.sev-snp.report', evidence: await snp.attest(new Uint8Array(64)) },
      gpus: await gpus.attest(new Uint8Array(32)),
      switches: [],
    })
    expect(answer.endorsements).toEqual([])
    expect(new Set(asked)).toEqual(
      new Set(['https://kdsintf.amd.com', 'https://rim.attestation.nvidia.com', 'https://ocsp.ndis.nvidia.com']),
    )
    await relay.close()
  })

  it('outlives guests that send nonsense', async () => {
    const makers = await startMakers({})
    const relay = await relayTo(makers)
    const address = parseRelayAddress(relay.address)
    for (const bytes of [new Uint8Array(), utf8('GET / HTTP/1.1'), new Uint8Array(100).fill(0xff)]) {
      await expect(askRelay(address, bytes, 5000)).rejects.toMatchObject({ code: 'worker.relay' })
    }
    const evidence = new Uint8Array(1184)
    const cpu = { type: 'application/vnd.amd.sev-snp.report', evidence } as const
    const { endorsements, missing } = await ask(relay, { cpu, gpus: [new Uint8Array(8)], switches: [] })
    expect([endorsements.length, missing.length > 0]).toEqual([0, true])
    await relay.close()
    await makers.close()
  })
})

/** A relay of one behaviour. */
async function lying(behave: (socket: Socket) => void) {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', () => behave(socket))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address: RelayAddress = { kind: 'tcp', host: '127.0.0.1', port: (server.address() as AddressInfo).port }
  const path = freshSocket()
  const unix = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', () => behave(socket))
  }).listen(path)
  await once(unix, 'listening')
  const all: readonly RelayAddress[] = [address, { kind: 'unix', path }, { kind: 'native-unix', path }]
  return {
    all,
    close() {
      server.close()
      unix.close()
    },
  }
}

const QUESTION = encodeQuestion({ gpus: [], switches: [] })

describe('a relay that lies (P-14.2)', () => {
  const head = (length: number): Bytes => framed(new Uint8Array()).map((_, i) => (length >>> (24 - 8 * i)) & 255)

  it.each([
    ['announces more than fits', (socket: Socket) => socket.end(head(MAX_ANSWER_BYTES + 1))],
    ['announces four gigabytes', (socket: Socket) => socket.end(head(0xffff_ffff))],
    ['ends early', (socket: Socket) => socket.end(Buffer.concat([head(100), Buffer.alloc(99)]))],
    ['ends at once', (socket: Socket) => socket.end()],
    ['never answers', () => undefined],
    [
      'trickles',
      (socket: Socket) => {
        socket.write(head(1000))
        setInterval(() => socket.write(Uint8Array.of(0)), 20).unref()
      },
    ],
    ['hangs up', (socket: Socket) => socket.destroy()],
  ])('and %s is one that gave nothing, by every kind of socket', async (_, behave) => {
    const relay = await lying(behave)
    for (const address of relay.all) {
      await expect(askRelay(address, QUESTION, 400)).rejects.toMatchObject({ code: 'worker.relay' })
    }
    relay.close()
  })

  it('and is not there is one that gave nothing', async () => {
    for (const address of ['unix:/nonexistent/x.sock', 'tcp:127.0.0.1:9', 'vsock:1:9']) {
      await expect(askRelay(parseRelayAddress(address), QUESTION, 400)).rejects.toMatchObject({ code: 'worker.relay' })
    }
  })

  it('by every kind of socket an honest answer arrives', async () => {
    const payload = encodeAnswer({
      endorsements: [{ type: 'application/xml', bytes: new Uint8Array(200_000) }],
      missing: [],
    })
    const relay = await lying((socket) => socket.end(framed(payload)))
    for (const address of relay.all) expect(await askRelay(address, QUESTION, 20_000)).toEqual(payload)
    relay.close()
  })

  it('and answers nonsense is never believed: the verdict lacks what it lacked', async () => {
    const wrong = [
      { type: 'application/pkix-cert', bytes: Uint8Array.of(0x30, 0x03, 1, 2, 3) },
      { type: 'application/xml', bytes: utf8('<SoftwareIdentity/>') },
      { type: 'application/ocsp-response', bytes: new Uint8Array(50).fill(0x30) },
    ] as const
    const relay = await lying((socket) => socket.end(framed(encodeAnswer({ endorsements: wrong, missing: [] }))))
    const machine = await openMachine({
      relays: relay.all.slice(0, 1).map((address) => ('port' in address ? `tcp:127.0.0.1:${address.port}` : '')),
      now: () => now,
      log,
      detect: async () => platformOf(),
      openGpus: async () => undefined,
    })
    while ((await machine.platform.endorsements()).length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
    const seconds = (): number => now.getTime() / 1000
    const { bootId: _, keys: __, operatorKey: ___, ...statement } = STATEMENT
    const keys = await createKeyLadder({ now: seconds, statement })
    const attester = createAttester({ platform: machine.platform, keys, now: seconds, windowMs: 0 })
    const policy = resolvePolicy({ schema: 'subrosa-policy/1', measurements: 'any', model: 'any' })
    const result = await verifyEvidence(await attester.bundle(), { now, policy })
    expect(result.verdict).not.toBe('accepted')
    expect(result.checks.find(({ id }) => id === 'snp.vek.present')?.status).toBe('skip')
    attester.close()
    await machine.close()
    relay.close()
  })
})

describe('the stapler', () => {
  const item = { type: 'application/xml', bytes: utf8('x') } as const
  /** Lets the rounds of a stapler be run by hand. */
  function stepped(options: Partial<StaplerOptions>, relays: readonly RelayAddress[]) {
    const waits: number[] = []
    let next = (): void => undefined
    let ended = (): void => undefined
    const stapler = createStapler({
      relays,
      evidence: async () => ({ gpus: [], switches: [] }),
      timeoutMs: 20_000,
      random: () => 0.5,
      after: (ms, then) => {
        waits.push(ms)
        next = then
        ended()
        return () => waits.push(-1)
      },
      ...options,
    })
    const round = (start: () => void) =>
      new Promise<void>((resolve) => {
        ended = resolve
        start()
      })
    return { stapler, waits, start: () => round(() => stapler.start()), again: () => round(() => next()) }
  }

  it('waits longer after each failure, with chance in it, and keeps what it had', async () => {
    let behave = (socket: Socket): void => void socket.end(framed(encodeAnswer({ endorsements: [item], missing: [] })))
    const relay = await lying((socket) => behave(socket))
    const { stapler, waits, start, again } = stepped({}, relay.all.slice(0, 1))
    await start()
    expect(stapler.current()).toEqual([item])
    behave = (socket) => socket.destroy()
    await again()
    await again()
    behave = (socket) => socket.end(framed(encodeAnswer({ endorsements: [], missing: ['nothing at hand'] })))
    await again()
    expect(stapler.current()).toEqual([item])
    expect(waits).toEqual([3_600_000, 11_250, 22_500, 45_000])
    stapler.close()
    expect(waits.at(-1)).toBe(-1)
    relay.close()
  })

  it('never waits longer than half an hour, and draws between half and all of it', async () => {
    const bounds: number[] = []
    for (const random of [() => 0, () => 0.999_999]) {
      const { waits, start, again } = stepped({ random }, [{ kind: 'unix', path: '/nonexistent/x.sock' }])
      await start()
      for (let i = 0; i < 12; i++) await again()
      bounds.push(Math.round(waits.at(-1) ?? 0))
    }
    expect(bounds[0]).toBe(900_000)
    expect(bounds[1]).toBeLessThanOrEqual(1_800_000)
  })

  it('asks nobody where no relay was named', async () => {
    const { stapler, waits } = stepped({}, [])
    stapler.start()
    expect(waits).toEqual([])
    await expect(stapler.ask({ gpus: [], switches: [] })).rejects.toMatchObject({ code: 'worker.relay' })
  })

  it('staples each item once and no more than a bundle holds', () => {
    const many = Array.from(
      { length: 300 },
      (_, i) => ({ type: 'application/xml', bytes: Uint8Array.of(i, i >> 8) }) as const,
    )
    expect(mergeStapled([item], [item], many)).toHaveLength(MAX_ENDORSEMENTS)
    const large = { type: 'application/xml', bytes: new Uint8Array(5 * 1024 * 1024) } as const
    const larger = { type: 'application/xml', bytes: new Uint8Array(5 * 1024 * 1024).fill(1) } as const
    expect(mergeStapled([large], [larger], [item])).toEqual([large, item])
  })
})

describe('addresses of relays', () => {
  it('are read, or refused by name', () => {
    expect(parseRelayAddress('unix:/run/x.sock')).toEqual({ kind: 'unix', path: '/run/x.sock' })
    expect(parseRelayAddress('tcp:[::1]:80')).toEqual({ kind: 'tcp', host: '::1', port: 80 })
    expect(parseRelayAddress('vsock:2:8646')).toEqual({ kind: 'vsock', cid: 2, port: 8646 })
    for (const text of ['', 'unix:x', 'tcp:host', 'tcp:host:0', 'tcp:host:70000', 'vsock:two:1', 'http://host:1']) {
      expect(() => parseRelayAddress(text)).toThrow(/expected unix:/)
    }
  })
})

describe('questions and answers', () => {
  it('are read back, and anything else is refused', () => {
    const question = {
      cpu: { type: 'application/vnd.intel.tdx.quote', evidence: utf8('q') },
      gpus: [utf8('g')],
      switches: [],
    } as const
    expect(parseQuestion(encodeQuestion(question))).toEqual(question)
    const answer = { endorsements: [{ type: 'application/pkix-crl', bytes: utf8('c') }], missing: ['m'] } as const
    expect(parseAnswer(encodeAnswer(answer))).toEqual(answer)
    expect(() => parseAnswer(encodeQuestion(question))).toThrow(FormatError)
    expect(() => parseQuestion(encodeAnswer(answer))).toThrow(FormatError)
    const items = Array.from({ length: MAX_ENDORSEMENTS + 1 }, () => answer.endorsements[0])
    expect(() => parseAnswer(encodeAnswer({ endorsements: items, missing: [] }))).toThrow(FormatError)
    expect(() => frameLength(Uint8Array.of(0, 0, 1, 0), 255)).toThrow(FormatError)
  })

  it('of random bytes are refused and nothing worse', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        for (const parse of [parseQuestion, parseAnswer]) {
          try {
            parse(bytes)
          } catch (error) {
            expect(error).toBeInstanceOf(FormatError)
          }
        }
      }),
    )
  })
})
