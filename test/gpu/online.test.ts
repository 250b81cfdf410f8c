/**
 * NVIDIA's services over real sockets: OCSP asked with a nonce of one's own, manifests fetched by name. The responder is the
 * openssl command (skipped without it); a server that lies stands in for it where it has to.
 */
import type { RequestListener } from 'node:http'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createOcspService } from '../../scripts/simulated/gpu-ocsp.js'
import { encodeGpuEvidence } from '../../scripts/simulated/gpu-platform.js'
import { buildGpuReport } from '../../scripts/simulated/gpu-report.js'
import { createNvidiaHierarchy, type IssuedCertificate } from '../../scripts/simulated/nvidia.js'
import { createEndorsementFetcher } from '../../verifier/endorsement-fetch.js'
import { type EndorsementPool, sortEndorsements } from '../../verifier/endorsements.js'
import type { DeviceFields } from '../../verifier/gpu/device-fields.js'
import type { NvidiaServices } from '../../verifier/gpu/nvidia-fetch.js'
import { rimId } from '../../verifier/gpu/rim-service.js'
import type { OnlineResult } from '../../verifier/online.js'
import { verifyGpuOnline, verifyRimOnline } from '../../verifier/online-gpu.js'
import { type AppraisalPolicy, resolvePolicy } from '../../verifier/policy.js'
import { type Bytes, toBase64 } from '../../verifier/protocol/bytes.js'
import { standingInTheWay } from '../../verifier/result.js'
import { startHttp } from '../support/http.js'
import { hasOpenssl, type OpensslResponder, startOpensslResponder } from './openssl-responder.js'
import { HOUR, makeRim, NONCE } from './world.js'

const started = new Date()
const nvidia = createNvidiaHierarchy({
  notBefore: new Date(started.getTime() - HOUR),
  notAfter: new Date(started.getTime() + 23 * HOUR),
})
const device = nvidia.issueDevice({ family: 'GH100' })
const fields = { family: 'GH100', nonce: NONCE, fwid: device.fwid } as const
const evidence = encodeGpuEvidence(buildGpuReport(fields, device.privateKey), device.chain)
const rims = (['driver', 'vbios'] as const).map((kind) => makeRim('GH100', kind, { hierarchy: nvidia }))
const [driver, vbios] = rims as [(typeof rims)[0], (typeof rims)[0]]

/** Every certificate a verifier asks about: not the device's leaf, no roots. */
const asked: readonly IssuedCertificate[] = [
  device.brom,
  ...(['gh100Provisioner', 'gh100Identity', 'gh100RimCa', 'gh100RimL3'] as const).map(
    (name) => nvidia.authorities[name],
  ),
  ...rims.map(({ signer }) => signer),
]
const service = createOcspService(nvidia)
const stapled = asked.map((certificate) => service.staple(certificate))

const pool = (...bytes: readonly Uint8Array[]): EndorsementPool =>
  sortEndorsements(bytes.map((item, i) => ({ name: `${i}`, bytes: item })))
const manifests = rims.map(({ xml }) => xml)
const policyWith = (gpu: object = {}): AppraisalPolicy =>
  resolvePolicy({
    schema: 'subrosa-policy/1',
    gpu,
    trustAnchors: [nvidia.deviceRoot, nvidia.rimRoot].map(({ pem }) => `Kind: nvidia\n${pem}`),
    allowNonVendorRoot: true,
  })

const fetcher = () => createEndorsementFetcher({ fetch, sleep: async () => undefined, timeoutMs: 5_000 })
async function judge(
  services: NvidiaServices | undefined,
  endorsements: EndorsementPool,
  gpu: object = {},
): Promise<{ verdict: string; open: readonly string[]; aged: boolean; notice: string | undefined }> {
  const options = { policy: policyWith(gpu), endorsements, now: new Date(), nonce: NONCE }
  const online = { fetcher: fetcher(), ...(services === undefined ? {} : { nvidia: services }) }
  return summed(await verifyGpuOnline([evidence], [], options, online))
}

function summed({ result, notice }: OnlineResult) {
  return {
    verdict: result.verdict,
    open: standingInTheWay(result).map(({ id }) => id),
    aged: result.notProven.some(({ id }) => id === 'gpu.ocsp-age'),
    notice,
  }
}

/** A server of one answer, whatever is asked. */
async function serving<T>(listener: RequestListener, use: (url: string) => Promise<T>): Promise<T> {
  const server = await startHttp(listener)
  try {
    return await use(server.url)
  } finally {
    await server.close()
  }
}
const nowhere = 'http://127.0.0.1:9'

describe.skipIf(!hasOpenssl)('OCSP answered by openssl (skipped without the openssl command)', () => {
  let responder: OpensslResponder
  beforeAll(async () => {
    responder = await startOpensslResponder(nvidia, asked)
  })
  afterAll(() => responder.close())
  const ask = (endorsements: EndorsementPool, gpu: object = {}) =>
    judge({ ocsp: responder.url, rim: nowhere }, endorsements, gpu)

  it('what nobody stapled is asked for, once for each certificate, with one nonce', async () => {
    expect((await judge(undefined, pool(...manifests))).open).toContain('gpu.ocsp.present')
    const before = responder.requests.length
    expect(await ask(pool(...manifests))).toEqual({ verdict: 'accepted', open: [], aged: false, notice: undefined })
    expect(responder.requests.length - before).toBe(asked.length)
  })

  it('is asked about the signers of a manifest that has only just come', async () => {
    const rim: RequestListener = ({ url = '' }, response) => {
      const { xml } = url.includes('DRIVER') ? driver : vbios
      response.end(JSON.stringify({ rim: toBase64(xml) }))
    }
    await serving(rim, async (url) => {
      expect(await judge({ ocsp: responder.url, rim: url }, pool())).toMatchObject({ verdict: 'accepted', open: [] })
    })
  })

  it('answers a policy that insists on a nonce of its own, which stapled responses cannot', async () => {
    const insist = { ocsp: { nonce: 'required' } }
    expect(await judge(undefined, pool(...manifests, ...stapled), insist)).toMatchObject({
      verdict: 'unavailable',
      open: ['gpu.ocsp.nonce'],
    })
    expect(await ask(pool(...manifests, ...stapled), insist)).toMatchObject({ verdict: 'accepted', open: [] })
  })

  it.each([
    ['revoked', 'gpu.ocsp.revoked'],
    ['hold', 'gpu.ocsp.hold'],
  ] as const)('%s outranks a stapled response that says good', async (state, id) => {
    for (const certificate of [device.brom, driver.signer]) {
      responder.set(certificate, state)
      expect(await ask(pool(...manifests, ...stapled))).toMatchObject({ verdict: 'rejected', open: [id] })
      responder.set(certificate, 'good')
    }
  })

  it('a certificate openssl does not know', async () => {
    responder.set(vbios.signer, 'absent')
    expect(await ask(pool(...manifests))).toMatchObject({ verdict: 'rejected', open: ['gpu.ocsp.known'] })
    responder.set(vbios.signer, 'good')
  })

  it('a manifest on its own', async () => {
    const options = { policy: policyWith(), now: new Date() }
    const online = { fetcher: fetcher(), nvidia: { ocsp: responder.url } }
    expect(summed(await verifyRimOnline(driver.xml, options, online))).toMatchObject({ verdict: 'accepted', open: [] })
    responder.set(driver.signer, 'revoked')
    expect(summed(await verifyRimOnline(driver.xml, options, online)).open).toEqual(['gpu.ocsp.revoked'])
    responder.set(driver.signer, 'good')
  })

  it('is asked nothing when the policy turns revocation off, or about private hardware unless it is named', async () => {
    const before = responder.requests.length
    const off = { ...policyWith(), revocation: 'off' as const }
    const options = { policy: off, endorsements: pool(...manifests), now: new Date(), nonce: NONCE }
    await verifyGpuOnline([evidence], [], options, { fetcher: fetcher(), nvidia: { ocsp: responder.url } })
    await judge(undefined, pool(...manifests))
    expect(responder.requests.length).toBe(before)
  })
})

describe('a responder that does not help leaves what is at hand to decide', () => {
  const other = service.staple(nvidia.issueDevice({ family: 'GH100' }).brom)
  const LIES: readonly [string, RequestListener][] = [
    ['refuses', (_, response) => void response.writeHead(503).end()],
    ['sends a page', (_, response) => void response.end('<html>')],
    ['says unauthorized', (_, response) => void response.end(Buffer.from('30030a0106', 'hex'))],
    ['sends far too much', (_, response) => void response.end(Buffer.alloc(200_000, 0x30))],
    ['redirects', (_, response) => void response.writeHead(302, { location: 'http://127.0.0.1:9/' }).end()],
    ['hangs up', (request) => void request.socket.destroy()],
    ['answers about another certificate', (_, response) => void response.end(other)],
  ]

  it.each(LIES)('%s', async (_name, listener) => {
    await serving(listener, async (ocsp) => {
      expect(await judge({ ocsp }, pool(...manifests, ...stapled))).toMatchObject({ verdict: 'accepted', aged: true })
      expect(await judge({ ocsp }, pool(...manifests))).toMatchObject({
        verdict: 'unavailable',
        open: ['gpu.ocsp.present'],
      })
    })
  })

  it('says so, once', async () => {
    const { notice } = await judge({ ocsp: nowhere }, pool(...manifests, ...stapled))
    expect(notice).toMatch(/^could not ask the hardware maker: cannot reach http:\/\/127\.0\.0\.1:9: [^;]*$/)
  })

  it('cannot pass off a recording as an answer to this request', async () => {
    // Answers each question with a genuine response about the right certificate that was made for somebody else.
    const recorded =
      (nonce?: Uint8Array): RequestListener =>
      (request, response) => {
        const parts: Buffer[] = []
        request.on('data', (part: Buffer) => parts.push(part))
        request.on('end', () => {
          const question = Buffer.concat(parts)
          const about = asked.find(({ serialNumber }) => {
            const hex = serialNumber.toString(16)
            return question.includes(Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex'))
          })
          response.end(about === undefined ? '' : service.staple(about, nonce === undefined ? {} : { nonce }))
        })
      }
    const insist = { ocsp: { nonce: 'required' } }
    await serving(recorded(), async (ocsp) => {
      expect(await judge({ ocsp }, pool(...manifests))).toMatchObject({ verdict: 'accepted', aged: true })
      expect(await judge({ ocsp }, pool(...manifests), insist)).toMatchObject({
        verdict: 'unavailable',
        open: ['gpu.ocsp.nonce'],
      })
    })
    await serving(recorded(new Uint8Array(32).fill(3)), async (ocsp) => {
      expect(await judge({ ocsp }, pool(...manifests), insist)).toMatchObject({
        verdict: 'rejected',
        open: ['gpu.ocsp.nonce'],
      })
    })
  })
})

describe('the manifest service', () => {
  const answers = new Map<string, Bytes>([
    ['/v1/rim/NV_GPU_DRIVER_GH100_599.99.01', driver.xml],
    ['VBIOS', vbios.xml],
  ])
  const serve = (
    paths: string[],
    change: (xml: Bytes) => unknown = (xml) => ({ rim: toBase64(xml) }),
  ): RequestListener => {
    return ({ url = '' }, response) => {
      paths.push(url)
      const xml = answers.get(url) ?? (url.startsWith('/v1/rim/NV_GPU_VBIOS_') ? answers.get('VBIOS') : undefined)
      if (xml === undefined) return void response.writeHead(404).end('{"error":"RIM_NOT_FOUND"}')
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(change(xml)))
    }
  }

  it('is asked for what the device’s signed data names, and for nothing that is at hand', async () => {
    const paths: string[] = []
    await serving(serve(paths), async (rim) => {
      expect(await judge({ rim, ocsp: nowhere }, pool(...stapled))).toMatchObject({ verdict: 'accepted', open: [] })
      expect(paths).toEqual([
        '/v1/rim/NV_GPU_DRIVER_GH100_599.99.01',
        expect.stringMatching(/^\/v1\/rim\/NV_GPU_VBIOS_[0-9A-Z]+_[0-9A-Z]+_[0-9A-Z]+_[0-9A-F]{10}$/),
      ])
      paths.length = 0
      await judge({ rim, ocsp: nowhere }, pool(...manifests, ...stapled))
      expect(paths).toEqual([])
    })
  })

  it('names manifests as the service does, by kind of device', () => {
    const gpu = {
      kind: 'gpu',
      driver: '590.12',
      vbios: '97.00.88.00.0f',
      project: 'G525',
      projectSku: '0200',
      chipSku: '886',
    }
    const of = (fields: object) => fields as DeviceFields
    expect(rimId('driver', of(gpu), 'GH100')).toBe('NV_GPU_DRIVER_GH100_590.12')
    expect(rimId('driver', of(gpu), 'GB100')).toBe('NV_GPU_CC_DRIVER_GB100_590.12')
    expect(rimId('driver', of({ ...gpu, chip: 'GB202' }), 'GB202')).toBe('NV_GPU_CC_DRIVER_GB202_590.12')
    expect(rimId('vbios', of(gpu), 'GB100')).toBe('NV_GPU_VBIOS_G525_0200_886_970088000F')
    expect(rimId('switch', of(gpu), 'GH100')).toBeUndefined()
    const ls10 = { kind: 'switch', vbios: '96.10.55.00.01' }
    expect(rimId('switch', of(ls10), 'LS10')).toBe('NV_SWITCH_BIOS_5612_0002_890_9610550001')
    expect(rimId('driver', of(ls10), 'LS10')).toBeUndefined()
  })

  it.each<[string, (xml: Bytes) => unknown]>([
    [
      'answers with another device’s manifest',
      () => ({ rim: toBase64(makeRim('GB100', 'driver', { hierarchy: nvidia }).xml) }),
    ],
    ['answers with something else', () => ({ rim: 'AAAA' })],
    ['answers without a manifest', () => ({ id: 'x' })],
    ['answers with junk for base64', () => ({ rim: '%%%' })],
  ])('%s: never accepted', async (_name, change) => {
    await serving(serve([], change), async (rim) => {
      expect((await judge({ rim, ocsp: nowhere }, pool(...stapled))).verdict).not.toBe('accepted')
    })
  })

  it('has none: that is unavailable and no mismatch', async () => {
    await serving(
      (_, response) => void response.writeHead(404).end(),
      async (rim) => {
        const { verdict, open, notice } = await judge({ rim, ocsp: nowhere }, pool(...stapled))
        expect(verdict).toBe('unavailable')
        expect(open).toEqual(expect.arrayContaining(['gpu.driver-rim.present', 'gpu.vbios-rim.present']))
        expect(notice).toContain('answered 404')
      },
    )
  })
})
