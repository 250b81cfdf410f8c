/** Evidence of an Azure confidential VM: a TPM that replays recorded evidence, and the verifier over what comes of it. */
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { openAzure } from '../../enclave/platforms/azure.js'
import { detectPlatform } from '../../enclave/platforms/detect.js'
import type { Tpm } from '../../enclave/platforms/tpm.js'
import { type Bytes, concat, fromHex, toBytes, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { readSnpEvidence } from '../../verifier/snp/evidence.js'
import { readTdxEvidence } from '../../verifier/tdx/evidence.js'
import { type PreparedCase, prepareCase, readCases, run } from '../snp/cases.js'
import { vectorPath, vectorsFolder, withoutVectors } from '../support/vectors.js'

interface Recorded {
  readonly hcl: Bytes
  readonly message: Bytes
  readonly signature: Bytes
  readonly pcrs: readonly Bytes[]
}

const u16 = (value: number): Bytes => Uint8Array.of(value >> 8, value & 255)
const u32 = (value: number): Bytes => concat(u16(value >>> 16), u16(value & 0xffff))

/** The commands a quote takes, answered from a recording, a few PCRs at a time as TPMs do. */
function replayingTpm(recorded: Recorded): Tpm & { closed: boolean } {
  const ok = (body: Uint8Array): Bytes => toBytes(concat(u16(0x8001), u32(10 + body.length), u32(0), body))
  const withSession = (body: Uint8Array): Bytes => ok(concat(u32(body.length), body, new Uint8Array(5)))
  const sized = (body: Uint8Array): Bytes => concat(u16(body.length), body)
  const tpm = {
    closed: false,
    async close() {
      tpm.closed = true
    },
    async transmit(command: Bytes): Promise<Bytes> {
      const view = new DataView(command.buffer, command.byteOffset)
      expect(view.getUint32(2)).toBe(command.length)
      switch (view.getUint32(6)) {
        case 0x169: // NV_ReadPublic
          expect(view.getUint32(10)).toBe(0x0140_0001)
          return ok(concat(sized(concat(new Uint8Array(10), u16(0), u16(recorded.hcl.length))), u16(0)))
        case 0x14e: {
          const at = command.length - 4
          const [size, offset] = [view.getUint16(at), view.getUint16(at + 2)]
          return withSession(sized(recorded.hcl.slice(offset, offset + size)))
        }
        case 0x158: // Quote
          return withSession(concat(sized(recorded.message), u16(0x14), u16(0xb), sized(recorded.signature)))
        case 0x17e: {
          const bitmap = command.slice(-3)
          const first = [...Array(24).keys()].find((i) => ((bitmap[i >> 3] ?? 0) >> (i & 7)) & 1) ?? 0
          const values = recorded.pcrs.slice(first, first + 8)
          const selection = concat(u32(1), u16(0xb), Uint8Array.of(3), bitmap)
          return ok(concat(u32(1), selection, u32(values.length), ...values.map(sized)))
        }
        default:
          return toBytes(concat(u16(0x8001), u32(10), u32(0x143)))
      }
    },
  }
  return tpm
}

const noService = () => Promise.reject(new TypeError('no network'))

function snpRecording(): Recorded & { readonly vcek: string } {
  const json = JSON.parse(readFileSync(vectorPath('snp', 'azure-vtpm-milan-v3-evidence.json'), 'utf8'))
  return {
    hcl: toBytes(Buffer.from(json.hcl_report, 'base64url')),
    message: fromHex(json.tpm_quote.message),
    signature: fromHex(json.tpm_quote.signature),
    pcrs: json.tpm_quote.pcrs.map(fromHex),
    vcek: json.vcek,
  }
}

describe.skipIf(withoutVectors)(`Azure vTPM${withoutVectors ? ' (captured evidence is not here)' : ''}`, () => {
  const challenge = utf8('challenge')

  it('gives the evidence the verifier gave its verdict about', async () => {
    const recorded = snpRecording()
    const source = await openAzure({ tpm: replayingTpm(recorded), fetch: noService })
    expect(source.kind).toBe('snp')
    const made = await source.make(challenge)
    expect(made.certificates).toEqual([])
    const container = readSnpEvidence(made.evidence)
    expect(container.quote?.pcrs).toEqual(recorded.pcrs)
    const [, known] = readCases().find(([name]) => name.includes('azure-vtpm-milan-v3')) ?? []
    const prepared = prepareCase(vectorsFolder ?? '', known as NonNullable<typeof known>)
    const withVcek = { ...JSON.parse(Buffer.from(made.evidence).toString()), vcek: recorded.vcek }
    const evidence = utf8(JSON.stringify(withVcek))
    const ours: PreparedCase = { ...prepared, evidence, input: { ...prepared.input, report: evidence } }
    expect((await run(ours)).checks).toEqual((await run(prepared)).checks)
  })

  it('takes certificates of the cloud’s local service, in DER', async () => {
    const [vcekCert = '', ...chain] =
      readFileSync(vectorPath('snp', 'azure-vtpm-milan-hcl-chain.pem'), 'utf8').match(
        /-----BEGIN[\s\S]*?-----END.*\n/g,
      ) ?? []
    const answer = { vcekCert, certificateChain: chain.join('') }
    const asked: string[] = []
    const service = async (url: URL | RequestInfo, init?: RequestInit): Promise<Response> => {
      asked.push(`${String(url)} ${new Headers(init?.headers).get('metadata')}`)
      return new Response(JSON.stringify(answer))
    }
    const source = await openAzure({ tpm: replayingTpm(snpRecording()), fetch: service })
    const { certificates } = await source.make(challenge)
    expect(asked).toEqual(['http://169.254.169.254/metadata/THIM/amd/certification true'])
    expect(certificates.map(({ bytes }) => bytes[0])).toEqual([0x30, 0x30, 0x30])
  })

  it.each([
    ['an error page', () => new Response('<html>', { status: 200 })],
    ['a refusal', () => new Response('', { status: 404 })],
    ['too much', () => new Response(new Uint8Array(300 * 1024))],
    ['other JSON', () => new Response('[1]')],
  ])('does without certificates when the service answers %s', async (_, answer) => {
    const source = await openAzure({ tpm: replayingTpm(snpRecording()), fetch: async () => answer() })
    expect((await source.make(challenge)).certificates).toEqual([])
  })

  it('refuses a quote over other data than it was given', async () => {
    const source = await openAzure({ tpm: replayingTpm(snpRecording()), fetch: noService })
    await expect(source.make(utf8('another'))).rejects.toMatchObject({ code: 'worker.platform' })
  })

  it('has a TDX quote made of the TD report, and says so when nobody makes one', async () => {
    const hcl = new Uint8Array(readFileSync(vectorPath('tdx', 'azure-tdx-vtpm-hcl-report.bin')))
    const quote = readFileSync(vectorPath('tdx', 'v4-00806f05-azure-dcesv5-outofdate-quote.bin'))
    const recorded = { ...snpRecording(), hcl }
    const bodies: string[] = []
    const service = async (_: URL | RequestInfo, init?: RequestInit): Promise<Response> => {
      bodies.push(String(init?.body))
      return new Response(JSON.stringify({ quote: quote.toString('base64url') }))
    }
    const source = await openAzure({ tpm: replayingTpm(recorded), fetch: service })
    expect(source.kind).toBe('tdx')
    const made = await source.make(challenge)
    expect(Buffer.from(JSON.parse(bodies[0] ?? '').report, 'base64url')).toHaveLength(1024)
    const read = readTdxEvidence(made.evidence)
    expect(toHex(read.quote)).toBe(quote.toString('hex'))
    expect(read.hcl).toBeDefined()
    expect(made.hostData).toHaveLength(48)
    const alone = await openAzure({ tpm: replayingTpm(recorded), fetch: noService })
    await expect(alone.make(challenge)).rejects.toThrow(/made no quote/)
  })

  it('is not taken for a machine by a TPM without a paravisor’s report', async () => {
    const empty = { transmit: async () => fromHex('8001' + '0000000a' + '0000018b'), close: async () => undefined }
    await expect(openAzure({ tpm: empty, fetch: noService })).rejects.toMatchObject({ code: 'worker.no-tee' })
    const other = replayingTpm({ ...snpRecording(), hcl: new Uint8Array(2600) })
    await expect(openAzure({ tpm: other, fetch: noService })).rejects.toMatchObject({ code: 'worker.no-tee' })
    expect(other.closed).toBe(true)
  })
})

describe('a hostile TPM', () => {
  it('is a failure of the machine and nothing worse', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 80 }), { maxLength: 6 }), async (answers) => {
        const queue = answers.map((bytes) => new Uint8Array(bytes))
        const transmit = async (): Promise<Bytes> => queue.shift() ?? new Uint8Array()
        const tpm = { transmit, close: async () => undefined }
        const detected = detectPlatform({ sources: [() => openAzure({ tpm, fetch: noService })] })
        await expect(detected).rejects.toMatchObject({ code: expect.stringMatching(/^worker\.(no-tee|platform)$/) })
      }),
    )
  })
})
