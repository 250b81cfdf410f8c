/** Endorsements over the network: asked for when missing, stored, backed off, bounded, and never at all when told not to. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type AmdHierarchy, createAmdHierarchy, sharedAmdKeys } from '../scripts/simulated/amd.js'
import { buildSnpReport, signSnpReport } from '../scripts/simulated/snp-report.js'
import { createEndorsementFetcher, type EndorsementFetcher } from '../verifier/endorsement-fetch.js'
import { createEndorsementStore } from '../verifier/endorsement-store.js'
import { sortEndorsements } from '../verifier/endorsements.js'
import { verifyOnline } from '../verifier/online.js'
import { resolvePolicy } from '../verifier/policy.js'
import { type Bytes, toBytes, utf8 } from '../verifier/protocol/bytes.js'
import { exitCodeOf } from '../verifier/result.js'
import { startHttp } from './support/http.js'

const TCB = { bootLoader: 10, tee: 0, snp: 28, microcode: 0x60 }
const now = new Date('2026-01-01T12:00:00Z')
let amd: AmdHierarchy
let report: Bytes
let vcek: Bytes
let folder: string

beforeAll(async () => {
  amd = createAmdHierarchy({ product: 'Genoa', keys: await sharedAmdKeys('Genoa') })
  const hwid = new Uint8Array(64).fill(7)
  const tcb = { bl: TCB.bootLoader, tee: TCB.tee, snp: TCB.snp, ucode: TCB.microcode }
  const issued = amd.issueVcek({ tcb, hwid })
  vcek = toBytes(issued.der)
  report = toBytes(signSnpReport(buildSnpReport({ product: 'Genoa', tcb, chipId: hwid }), issued.privateKey))
  folder = await mkdtemp(join(tmpdir(), 'subrosa-store-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const policy = () =>
  resolvePolicy({
    schema: 'subrosa-policy/1',
    measurements: 'any',
    snp: { tcbFloor: 'none' },
  })

/** The key service as far as it matters here. */
function keyService(requests: string[]): typeof fetch {
  return async (input) => {
    const path = new URL(String(input)).pathname + new URL(String(input)).search
    requests.push(path)
    if (path.endsWith('/crl')) return new Response(toBytes(amd.crl({})))
    if (path.endsWith('/cert_chain')) return new Response(amd.askPem + amd.arkPem)
    return new Response(vcek)
  }
}

const fetcherOver = (fetchFn: typeof fetch, more: { store?: ReturnType<typeof createEndorsementStore> } = {}) =>
  createEndorsementFetcher({ fetch: fetchFn, sleep: async () => undefined, ...more })

describe('verifyOnline', () => {
  it('fetches VEK, chain and revocation list of a bare report, and judges them like any others', async () => {
    const requests: string[] = []
    const { result } = await verifyOnline(
      report,
      { policy: policy(), now },
      { fetcher: fetcherOver(keyService(requests)) },
    )
    expect(requests.map((path) => path.split('?')[0]?.split('/').at(-1))).toEqual([
      '07'.repeat(64),
      'cert_chain',
      'crl',
    ])
    expect(requests[0]).toContain('blSPL=10&teeSPL=00&snpSPL=28&ucodeSPL=96')
    // What came over the network is under a root that is nobody's: fetched is not trusted.
    expect(result.checks.filter((check) => check.status === 'fail').map((check) => check.id)).toEqual([
      'snp.chain.root',
    ])
    expect(exitCodeOf(result)).toBe(1)
  })

  it('asks nobody about hardware under a private root once nothing is missing', async () => {
    const requests: string[] = []
    const anchored = resolvePolicy({
      schema: 'subrosa-policy/1',
      measurements: 'any',
      trustAnchors: [`Kind: snp\n${amd.arkPem}`],
      allowNonVendorRoot: true,
    })
    const files = [vcek, amd.askDer, amd.arkDer, amd.crl({})].map((bytes, i) => ({
      name: `${i}`,
      bytes: toBytes(bytes),
    }))
    const options = { policy: anchored, now, endorsements: sortEndorsements(files) }
    const { result } = await verifyOnline(report, options, { fetcher: fetcherOver(keyService(requests)) })
    expect(result.verdict).toBe('accepted')
    expect(requests).toEqual([])
  })

  it('stays unavailable, with a notice, when the network does not help', async () => {
    const broken: typeof fetch = () => Promise.reject(new TypeError('fetch failed'))
    const { result, notice } = await verifyOnline(report, { policy: policy(), now }, { fetcher: fetcherOver(broken) })
    expect(exitCodeOf(result)).toBe(4)
    expect(notice).toMatch(/^could not ask the hardware maker: cannot reach https:\/\/kdsintf\.amd\.com/)
  })

  it('touches no network for what is no evidence', async () => {
    const never: EndorsementFetcher = { get: () => Promise.reject(new Error('the network was touched')) }
    const { result } = await verifyOnline(utf8('hello'), { policy: policy(), now }, { fetcher: never })
    expect(exitCodeOf(result)).toBe(3)
  })
})

describe('the fetcher', () => {
  const address = (url: string, more = {}) => ({
    url: new URL(url),
    accept: '*/*',
    maxBytes: 1000,
    maxAgeMs: 1000,
    isValid: (bytes: Bytes) => bytes[0] === 0x6f,
    ...more,
  })

  it('makes one flight of many askers, stores what came, and asks again when it is old', async () => {
    let hits = 0
    const server = await startHttp((_, response) => {
      hits++
      response.end('ok')
    })
    let clock = Date.now()
    const store = createEndorsementStore(folder, () => new Date(clock))
    const fetcher = fetcherOver(fetch, { store })
    const answers = await Promise.all([1, 2, 3].map(() => fetcher.get(address(server.url))))
    expect(answers.map((bytes) => bytes.length)).toEqual([2, 2, 2])
    expect(hits).toBe(1)
    await fetcherOver(fetch, { store }).get(address(server.url))
    expect(hits).toBe(1)
    expect((await readdir(folder)).every((name) => /^[0-9a-f]{64}$/.test(name))).toBe(true)
    clock += 5000
    await fetcher.get(address(server.url))
    expect(hits).toBe(2)
    await server.close()
  })

  it('waits as long as it is told, a bounded number of times', async () => {
    const waits: number[] = []
    let hits = 0
    const server = await startHttp((_, response) => {
      hits++
      response.writeHead(429, hits === 1 ? { 'retry-after': '3' } : {}).end()
    })
    const fetcher = createEndorsementFetcher({ fetch, sleep: async (ms) => void waits.push(ms) })
    await expect(fetcher.get(address(server.url))).rejects.toMatchObject({ code: 'endorsement.status' })
    expect(hits).toBe(3)
    expect(waits).toEqual([3000, 20_000])
    await server.close()
  })

  it('refuses an error page, too many bytes, a redirect, and an answer that never ends', async () => {
    const server = await startHttp((request, response) => {
      if (request.url === '/page') response.end('<html>')
      else if (request.url === '/large') response.end(Buffer.alloc(5000, 0x6f))
      else if (request.url === '/away') response.writeHead(302, { location: '/ok' }).end()
      else response.write('o')
    })
    const fetcher = createEndorsementFetcher({ fetch, sleep: async () => undefined, timeoutMs: 300 })
    await expect(fetcher.get(address(`${server.url}/page`))).rejects.toMatchObject({ code: 'endorsement.invalid' })
    await expect(fetcher.get(address(`${server.url}/large`))).rejects.toMatchObject({ code: 'worker.too-large' })
    await expect(fetcher.get(address(`${server.url}/away`))).rejects.toMatchObject({ code: 'worker.unreachable' })
    await expect(fetcher.get(address(`${server.url}/slow`))).rejects.toThrow(/within 0\.3 s/)
    await server.close()
  })

  it('keeps a header that belongs to the endorsement', async () => {
    const server = await startHttp((_, response) => {
      response.writeHead(200, { 'issuer-chain': encodeURIComponent('a b') }).end('ok')
    })
    const bytes = await fetcherOver(fetch).get(address(server.url, { header: 'issuer-chain' }))
    expect(new TextDecoder().decode(bytes)).toBe('ok\na b')
    await server.close()
  })
})
