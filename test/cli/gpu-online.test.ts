/** `verify-attestation gpu` with a network: services named by the environment are asked, and never with --offline. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createOcspService } from '../../scripts/simulated/gpu-ocsp.js'
import { encodeGpuEvidence } from '../../scripts/simulated/gpu-platform.js'
import { buildGpuReport } from '../../scripts/simulated/gpu-report.js'
import { createNvidiaHierarchy, type IssuedCertificate } from '../../scripts/simulated/nvidia.js'
import { toBase64 } from '../../verifier/protocol/bytes.js'
import { HOUR, makeRim, NONCE } from '../gpu/world.js'
import { verifyAttestation } from '../support/command.js'
import { startHttp } from '../support/http.js'

const nvidia = createNvidiaHierarchy({
  notBefore: new Date(Date.now() - HOUR),
  notAfter: new Date(Date.now() + 23 * HOUR),
})
const device = nvidia.issueDevice({ family: 'GH100' })
const [driver, vbios] = (['driver', 'vbios'] as const).map((kind) => makeRim('GH100', kind, { hierarchy: nvidia }))
const asked: readonly (IssuedCertificate | undefined)[] = [
  device.brom,
  ...(['gh100Provisioner', 'gh100Identity', 'gh100RimCa', 'gh100RimL3'] as const).map(
    (name) => nvidia.authorities[name],
  ),
  driver?.signer,
  vbios?.signer,
]
const ocsp = createOcspService(nvidia)
let folder: string
let paths: string[]
let server: Awaited<ReturnType<typeof startHttp>>
const file = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-gpu-online-'))
  const report = buildGpuReport({ family: 'GH100', nonce: NONCE, fwid: device.fwid }, device.privateKey)
  await writeFile(file('gpu'), encodeGpuEvidence(report, device.chain))
  await writeFile(
    file('roots.pem'),
    [nvidia.deviceRoot, nvidia.rimRoot].map(({ pem }) => `Kind: nvidia\n${pem}`).join(''),
  )
  await writeFile(file('rim.xml'), driver?.xml ?? '')
  server = await startHttp((request, response) => {
    const { url = '' } = request
    paths.push(url)
    const xml = url.includes('DRIVER') ? driver?.xml : url.includes('VBIOS') ? vbios?.xml : undefined
    if (xml !== undefined) return void response.end(JSON.stringify({ rim: toBase64(xml) }))
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const hex = (serial: bigint) => serial.toString(16).padStart(2 * Math.ceil(serial.toString(16).length / 2), '0')
      const question = Buffer.concat(parts)
      const about = asked.find(
        (one) => one !== undefined && question.includes(Buffer.from(hex(one.serialNumber), 'hex')),
      )
      response.end(about === undefined ? '' : ocsp.staple(about))
    })
  })
  process.env['SUBROSA_NVIDIA_RIM'] = server.url
  process.env['SUBROSA_NVIDIA_OCSP'] = `${server.url}/ocsp`
  process.env['SUBROSA_CACHE'] = file('cache')
})
afterEach(() => {
  paths = []
})
paths = []
afterAll(async () => {
  for (const name of ['SUBROSA_NVIDIA_RIM', 'SUBROSA_NVIDIA_OCSP', 'SUBROSA_CACHE']) delete process.env[name]
  await server.close()
  await rm(folder, { recursive: true, force: true })
})

const roots = () => ['--trust-anchor', file('roots.pem')]
const nonce = () => ['--nonce', Buffer.from(NONCE).toString('hex'), ...roots()]

describe('with a network', () => {
  it('a report alone is accepted on what the services answer', async () => {
    const { status, stdout, stderr } = await verifyAttestation('gpu', file('gpu'), ...nonce())
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toMatch(/^ACCEPTED {2}a SIMULATED OR PRIVATE NVIDIA GPU/)
    expect(paths.filter((path) => path.startsWith('/v1/rim/'))).toHaveLength(2)
    expect(paths.filter((path) => path === '/ocsp')).toHaveLength(asked.length)
  })

  it('so is a manifest alone', async () => {
    const { status } = await verifyAttestation('gpu', 'rim', file('rim.xml'), '--trust-anchor', file('roots.pem'))
    expect(status).toBe(0)
    expect(paths.every((path) => path === '/ocsp')).toBe(true)
  })

  it('--offline asks nobody, and what is missing is unavailable', async () => {
    expect((await verifyAttestation('gpu', file('gpu'), '--offline', ...nonce())).status).toBe(4)
    expect((await verifyAttestation('gpu', 'rim', file('rim.xml'), '--offline', ...roots())).status).toBe(4)
    expect(paths).toEqual([])
  })
})
