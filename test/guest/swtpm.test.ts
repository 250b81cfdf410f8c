/**
 * The commands of the vTPM platform against a TPM that is one: swtpm, holding a recorded HCL report and an attestation key of
 * its own, where Azure has them. Skipped where swtpm is not installed.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createPublicKey, verify } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openAzure } from '../../enclave/platforms/azure.js'
import { readNvIndex, readPcrs, type Tpm } from '../../enclave/platforms/tpm.js'
import { ByteReader, type Bytes, concat, fromHex, toBase64Url, toBytes } from '../../verifier/protocol/bytes.js'
import { readSnpEvidence } from '../../verifier/snp/evidence.js'
import { matchPcrs, readTpmQuote } from '../../verifier/snp/tpm-quote.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'

const withoutSwtpm = spawnSync('swtpm', ['--version']).status !== 0
const absent = withoutSwtpm || withoutVectors
const reason = withoutSwtpm ? ' (no swtpm here)' : ' (captured evidence is not here)'

const RH_OWNER = '40000001'
/** One empty password, with its length before it. */
const PASSWORD = '00000009' + '40000009' + '0000' + '00' + '0000'
const HCL_INDEX = '01400001'
const KEY_HANDLE = '81000003'
/** Header 32, report 1184, header of the claims 20. */
const CLAIMS_AT = 32 + 1184 + 20
const CLAIMS_BYTES = 500

const hex = (value: number, digits: number): string => value.toString(16).padStart(digits, '0')
const sized = (text: string): string => hex(text.length / 2, 4) + text

async function tpmOver(socket: Socket): Promise<Tpm> {
  return {
    async transmit(command) {
      socket.write(command)
      let response = Buffer.alloc(0)
      while (response.length < 10 || response.length < response.readUInt32BE(2)) {
        const [piece] = (await once(socket, 'data')) as [Buffer]
        response = Buffer.concat([response, piece])
      }
      return toBytes(new Uint8Array(response))
    },
    async close() {
      socket.destroy()
    },
  }
}

/** Sends a command of this test's own making. @throws Error with the response code when it is refused */
async function command(tpm: Tpm, code: string, handles: string, parameters: string): Promise<ByteReader> {
  const body = code + handles + PASSWORD + parameters
  const response = new ByteReader(await tpm.transmit(fromHex(`8002${hex(6 + body.length / 2, 8)}${body}`)), 'response')
  response.take(6)
  const status = response.u32be()
  if (status !== 0) throw new Error(`expected command ${code} to succeed, got ${hex(status, 8)}`)
  return response
}

describe.skipIf(absent)(`a software TPM${absent ? reason : ''}`, () => {
  let folder: string
  let swtpm: ReturnType<typeof spawn>
  let tpm: Tpm
  let hcl: Bytes
  let modulus: Bytes

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'subrosa-swtpm-'))
    const server = join(folder, 'tpm.sock')
    const channel = ['--server', `type=unixio,path=${server}`, '--flags', 'not-need-init,startup-clear']
    swtpm = spawn('swtpm', ['socket', '--tpm2', '--tpmstate', `dir=${folder}`, ...channel])
    while (!existsSync(server)) await new Promise((resolve) => setTimeout(resolve, 20))
    const socket = connect(server)
    await once(socket, 'connect')
    tpm = await tpmOver(socket)

    // A restricted RSA signing key, RSASSA with SHA-256, as the paravisor makes it.
    const key = ['0001', '000b', '00050072', '0000', '0010', '0014', '000b', '0800', '00000000', '0000'].join('')
    const created = await command(tpm, '00000131', RH_OWNER, `0004${'0000'.repeat(2)}${sized(key)}0000${'00000000'}`)
    const handle = created.u32be()
    created.take(4)
    const area = new ByteReader(created.take(created.u16be()), 'public area')
    area.take(8 + 2 + 2 + 4 + 2 + 4)
    modulus = area.take(area.u16be())
    await command(tpm, '00000120', RH_OWNER + hex(handle, 8), KEY_HANDLE)

    // Its claims made shorter, and their lengths with them: software TPMs hold 2,048 bytes at most in one index.
    const recorded = readFileSync(vectorPath('snp', 'azure-vtpm-milan-hcl-report.bin'))
    hcl = toBytes(new Uint8Array(recorded.subarray(0, CLAIMS_AT + CLAIMS_BYTES)))
    const view = new DataView(hcl.buffer)
    view.setUint32(8, hcl.length, true)
    view.setUint32(CLAIMS_AT - 20, 20 + CLAIMS_BYTES, true)
    view.setUint32(CLAIMS_AT - 4, CLAIMS_BYTES, true)
    const area2 = `${HCL_INDEX}000b${hex((1 << 1) | (1 << 17) | (1 << 25), 8)}0000${hex(hcl.length, 4)}`
    await command(tpm, '0000012a', RH_OWNER, `0000${sized(area2)}`)
    for (let at = 0; at < hcl.length; at += 512) {
      const piece = Buffer.from(hcl.subarray(at, at + 512)).toString('hex')
      await command(tpm, '00000137', RH_OWNER + HCL_INDEX, sized(piece) + hex(at, 4))
    }
  })

  afterAll(async () => {
    await tpm?.close()
    swtpm?.kill()
    await rm(folder, { recursive: true, force: true })
  })

  it('gives back what an index holds, and nothing for one that is not there', async () => {
    expect(await readNvIndex(tpm, 0x0140_0001)).toEqual(hcl)
    expect(await readNvIndex(tpm, 0x0140_0002)).toBeUndefined()
  })

  it('signs report data and PCRs, in a container the verifier reads', async () => {
    const source = await openAzure({ tpm, fetch: () => Promise.reject(new TypeError('no network')) })
    const reportData = crypto.getRandomValues(new Uint8Array(64))
    const { evidence, hostData } = await source.make(reportData)
    const { quote, hcl: envelope } = readSnpEvidence(evidence)
    if (quote === undefined || envelope === undefined) throw new Error('expected a quote and an envelope')
    const attested = readTpmQuote(quote.message)
    expect(attested.qualifyingData).toEqual(reportData)
    expect(quote.pcrs).toEqual(await readPcrs(tpm))
    expect(quote.pcrs).toHaveLength(24)
    expect(matchPcrs(attested, quote.pcrs)).toBe(true)
    const jwk = { kty: 'RSA', n: toBase64Url(modulus), e: 'AQAB' }
    const key = createPublicKey({ key: jwk, format: 'jwk' })
    expect(verify('sha256', quote.message, key, quote.signature)).toBe(true)
    expect(verify('sha256', concat(quote.message, Uint8Array.of(0)), key, quote.signature)).toBe(false)
    expect(hostData).toEqual(hcl.slice(32 + 0xc0, 32 + 0xe0))
  })
})
