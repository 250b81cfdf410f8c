/**
 * Simulated GPU reports, manifests and nodes, checked with node:crypto, readers of this folder's own and the shape of
 * captured evidence where there is any. The canonicaliser behind the manifests is held against real signatures.
 */
import { createHash, verify, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  DEVICES,
  type DeviceFamily,
  NVDEC0_INDEX,
  simulatedGolden,
  simulatedMeasurements,
  simulatedRimId,
} from '../../scripts/simulated/gpu-facts.js'
import { OPAQUE } from '../../scripts/simulated/gpu-opaque.js'
import { createSimulatedGpus, encodeGpuEvidence } from '../../scripts/simulated/gpu-platform.js'
import {
  buildGpuReport,
  type GpuReportBreak,
  type GpuReportFields,
  gpuReportOffsets,
  resignGpuReport,
  withMeasurements,
} from '../../scripts/simulated/gpu-report.js'
import { buildRim, type RimFields, simulatedRimRecords, withRecords } from '../../scripts/simulated/gpu-rim.js'
import { RIM_ATTACKS } from '../../scripts/simulated/gpu-rim-attacks.js'
import { canonicalizeXml, writeXml } from '../../scripts/simulated/gpu-rim-xml.js'
import {
  createNvidiaHierarchy,
  generateEcKeys,
  SIMULATED_EPOCH,
  SIMULATED_LIFETIME_MS,
} from '../../scripts/simulated/nvidia.js'
import { encodeGpuEvidence as encodeForBundle, parseGpuEvidence } from '../../verifier/protocol/gpu-evidence.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'
import { attribute, descend, elements, firstKey, readXml, whatHolds } from './nvidia-rim-reader.js'

const FAMILIES = ['GH100', 'GB100', 'LS10'] as const satisfies readonly DeviceFamily[]
const nvidia = createNvidiaHierarchy()
const { publicKey, privateKey } = generateEcKeys('P-384')
const nonce = new Uint8Array(32).fill(7)
const fwid = new Uint8Array(48).fill(9)

/** What a report says of itself, read front to back. */
function readReport(report: Uint8Array): { blocks: Buffer[]; opaque: [type: number, value: Buffer][]; layout: string } {
  const bytes = Buffer.from(report)
  const { record, responderNonce, opaque, signature } = gpuReportOffsets(report)
  const blocks: Buffer[] = []
  for (let at = record; at < responderNonce; ) {
    const size = bytes.readUInt16LE(at + 2)
    expect([bytes[at], bytes[at + 1], bytes[at + 4], bytes.readUInt16LE(at + 5)]).toEqual([
      blocks.length + 1,
      1,
      1,
      size - 3,
    ])
    blocks.push(bytes.subarray(at + 7, at + 4 + size))
    at += 4 + size
  }
  expect(blocks.length).toBe(bytes[37 + 4])
  const versioned = bytes.toString('latin1', opaque, opaque + 6) === 'NVDAOD'
  const entries = readOpaque(bytes.subarray(opaque, signature))
  return { blocks, opaque: entries.map(([type, , value]) => [type, value]), layout: versioned ? 'versioned' : 'legacy' }
}

function readOpaque(opaque: Buffer): [type: number, valueType: number | undefined, value: Buffer][] {
  const versioned = opaque.toString('latin1', 0, 6) === 'NVDAOD'
  const head = versioned ? 6 : 4
  const entries: [number, number | undefined, Buffer][] = []
  for (let at = versioned ? 12 : 0; at < opaque.length; ) {
    const size = opaque.readUInt16LE(at + head - 2)
    const valueType = versioned ? opaque.readUInt16LE(at + 2) : undefined
    expect(at + head + size).toBeLessThanOrEqual(opaque.length)
    entries.push([opaque.readUInt16LE(at), valueType, opaque.subarray(at + head, at + head + size)])
    at += head + size
  }
  return entries
}

function signatureHolds(report: Uint8Array): boolean {
  const { signature, end } = gpuReportOffsets(report)
  const key = { key: publicKey, dsaEncoding: 'ieee-p1363' } as const
  return report.length === end && verify('sha384', report.subarray(0, signature), key, report.subarray(signature))
}

describe('GPU reports', () => {
  it.each(FAMILIES)('of %s consume every byte and are signed as SPDM 1.1 has it', (family) => {
    const report = buildGpuReport({ family, nonce, fwid }, privateKey)
    const { blocks } = readReport(report)
    expect(signatureHolds(report)).toBe(true)
    expect(Buffer.from(report.subarray(0, 4)).toString('hex')).toBe('11e001ff')
    expect(report.subarray(4, 36)).toEqual(nonce)
    expect(blocks).toEqual(simulatedMeasurements(family).map((value) => Buffer.from(value)))
  })

  it('break one relation at a time, signature intact', () => {
    const good: GpuReportFields = { family: 'GH100', nonce, fwid, responderNonce: nonce }
    const reference = buildGpuReport(good, privateKey)
    const before: GpuReportBreak[] = [
      { request: { version: 0x12 } },
      { request: { code: 0xe1 } },
      { request: { param1: 0 } },
      { request: { slot: 1 } },
      { response: { version: 0x12 } },
      { response: { code: 0x7f } },
      { response: { param2: 1 } },
      { response: { blockCount: 63 } },
      { blocks: { 3: { index: 4 } } },
      { blocks: { 3: { specification: 2 } } },
      { blocks: { 3: { valueType: 0x81 } } },
      { opaque: [{ type: OPAQUE.fwid, omit: true }] },
      { opaque: [{ type: OPAQUE.nvdec0, duplicate: true }] },
      { opaque: [{ type: OPAQUE.featureFlag, value: Uint8Array.of(2, 0) }] },
      { opaque: [{ type: 200, value: Uint8Array.of(1) }] },
      { opaqueTail: Uint8Array.of(0) },
      { opaqueBytes: new Uint8Array() },
    ]
    for (const broken of before) {
      const report = buildGpuReport(good, privateKey, broken)
      expect(signatureHolds(report), JSON.stringify(broken)).toBe(true)
      const { signature } = gpuReportOffsets(report)
      expect(report.subarray(0, signature)).not.toEqual(reference.subarray(0, gpuReportOffsets(reference).signature))
    }
    const after: GpuReportBreak[] = [
      { signWith: generateEcKeys('P-384').privateKey },
      { signWith: generateEcKeys('P-256').privateKey },
      { hash: 'sha256' },
      { signature: 'der' },
      { signature: 'corrupt' },
      { signature: 'zero' },
      { signature: 'swapped' },
      { tail: Uint8Array.of(0) },
      { truncate: reference.length - 1 },
      { response: { recordLength: 3519 } },
      { response: { opaqueLength: 9 } },
    ]
    for (const broken of after) {
      expect(signatureHolds(buildGpuReport(good, privateKey, broken)), JSON.stringify(broken)).toBe(false)
    }
    const edited = new Uint8Array(reference)
    edited[60] = 1
    expect(signatureHolds(edited)).toBe(false)
    expect(signatureHolds(resignGpuReport(edited, privateKey))).toBe(true)
  })

  it('leave block 36 to NVDEC0', () => {
    const block = (report: Uint8Array): Buffer | undefined => readReport(report).blocks[NVDEC0_INDEX]
    const idle = buildGpuReport({ family: 'GH100', nonce, fwid }, privateKey)
    const golden = simulatedRimRecords('GH100', 'driver')[NVDEC0_INDEX]?.alternatives.map((value) => Buffer.from(value))
    expect(golden).not.toContainEqual(block(idle))
    const measurements = withMeasurements('GH100', { [NVDEC0_INDEX]: simulatedGolden('GH100', NVDEC0_INDEX) })
    const busy = buildGpuReport({ family: 'GH100', nonce, fwid, nvdec0: 0xaa, measurements }, privateKey)
    expect(golden).toContainEqual(block(busy))
  })

  const real: [string, GpuReportFields][] = [
    ['hopper-580-159-03', { family: 'GH100', nonce, fwid, driverVersion: '580.159.03' }],
    ['blackwell-gb100-575-32', { family: 'GB100', nonce, fwid, driverVersion: '575.32', opaqueVersion: 0 }],
    ['switch-ls10-96-10-55-00-01', { family: 'LS10', nonce, gpuPdis: [] }],
  ]
  it.skipIf(withoutVectors).each(real)('have the shape of %s (skipped without captured evidence)', (name, fields) => {
    const captured = readFileSync(vectorPath('nvidia', name, 'report.bin'))
    // Early Blackwell firmware has neither chip info nor a feature flag; the first switches count one index less.
    const late: number[] = name.startsWith('blackwell') ? [OPAQUE.chipInfo, OPAQUE.featureFlag] : []
    const opaque = [
      ...late.map((type) => ({ type, omit: true }) as const),
      ...(fields.family === 'LS10' ? [{ type: OPAQUE.measurementCounts, value: new Uint8Array(104) }] : []),
    ]
    const report = buildGpuReport(fields, privateKey, { opaque })
    const shape = (bytes: Uint8Array): unknown => {
      const read = readReport(bytes)
      return [bytes.length, read.layout, read.opaque.map(([type, value]) => [type, value.length])]
    }
    expect(shape(report)).toEqual(shape(captured))
    expect(report.subarray(0, 4)).toEqual(new Uint8Array(captured.subarray(0, 4)))
    expect(report.subarray(36, 45)).toEqual(new Uint8Array(captured.subarray(36, 45)))
  })

  it.skipIf(withoutVectors)('have the shape of the versioned opaque data (skipped without captured evidence)', () => {
    const captured = readFileSync(vectorPath('nvidia', 'opaque', 'nvdaod-v2-driver-620-12.bin'))
    const fields: GpuReportFields = { family: 'GH100', layout: 'versioned', nonce, fwid, driverVersion: '620.12' }
    const report = buildGpuReport(fields, privateKey)
    const { opaque, signature } = gpuReportOffsets(report)
    const ours = Buffer.from(report.subarray(opaque, signature))
    const shape = (bytes: Buffer): unknown =>
      readOpaque(bytes).map(([type, valueType, value]) => [type, valueType, value.length])
    expect(shape(ours)).toEqual(shape(captured))
    expect(ours.subarray(0, 12)).toEqual(captured.subarray(0, 12))
  })
})

describe('manifests', () => {
  const signer = nvidia.issueRimSigner({ family: 'GH100' })
  const genuine: RimFields = { family: 'GH100', kind: 'driver' }
  const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

  it.each(FAMILIES)('of %s are signed by their own leaf over their own canonical form', (family) => {
    const own = nvidia.issueRimSigner({ family })
    const xml = decode(buildRim({ family, kind: 'vbios' }, own))
    expect(whatHolds(xml, own.publicKey)).toBe('all')
    expect(whatHolds(xml, signer.publicKey)).toBe('none')
    const active = [...descend(readXml(xml))].filter(({ element }) => attribute(element, 'active') === 'True')
    expect(active.map(({ element }) => Number(attribute(element, 'index')))).toEqual(DEVICES[family].vbiosIndices)
    expect(new X509Certificate(own.der).publicKey.equals(firstKey(readXml(xml)))).toBe(true)
  })

  it('judge every index once, and match the measurements of a healthy device', () => {
    for (const family of FAMILIES) {
      const { driverIndices, vbiosIndices } = DEVICES[family]
      expect(driverIndices.filter((index) => vbiosIndices.includes(index))).toEqual([])
      const values = simulatedMeasurements(family)
      for (const kind of ['driver', 'vbios'] as const) {
        for (const { index, active, alternatives } of simulatedRimRecords(family, kind)) {
          if (active && index !== NVDEC0_INDEX) expect(alternatives).toContainEqual(values[index])
        }
      }
    }
    expect(simulatedRimId('GH100', 'vbios')).toBe('NV_GPU_VBIOS_G520_0200_885_9600FF0001')
    expect(simulatedRimId('GB100', 'driver')).toBe('NV_GPU_CC_DRIVER_GB100_599.99.01')
    expect(simulatedRimId('LS10', 'vbios')).toBe('NV_SWITCH_BIOS_5612_0002_890_9610FF0001')
  })

  it('change in content, signature or signer as asked', () => {
    const records = withRecords(simulatedRimRecords('GH100', 'driver'), { 7: { alternatives: [new Uint8Array(48)] } })
    expect(whatHolds(decode(buildRim({ ...genuine, records }, signer)), signer.publicKey)).toBe('all')
    const altered = decode(buildRim(genuine, signer, { editText: (xml) => xml.replace('599.99.01', '599.99.02') }))
    expect(whatHolds(altered, signer.publicKey)).toBe('signature')
    expect(whatHolds(decode(buildRim(genuine, signer, { digest: 'corrupt' })), signer.publicKey)).toBe('signature')
    expect(whatHolds(decode(buildRim(genuine, signer, { signature: 'corrupt' })), signer.publicKey)).toBe('none')
    const floor = decode(buildRim({ ...genuine, minimums: { [OPAQUE.fspMinimumSvn]: 3 } }, signer))
    expect(floor).toContain('index="4133" active="True" ns3:minSvn="3"')
    expect(whatHolds(floor, signer.publicKey)).toBe('all')
    const other = nvidia.issueRimSigner({ family: 'LS10' })
    expect(whatHolds(decode(buildRim(genuine, other)), other.publicKey)).toBe('all')
  })

  const attacker = nvidia.issueRimSigner({ family: 'GH100', overrides: { signWith: privateKey } })
  const forgedRecords = withRecords(simulatedRimRecords('GH100', 'driver'), {
    7: { alternatives: [new Uint8Array(48)] },
  })
  it.each(Object.entries(RIM_ATTACKS))('attacked by %s hold as stated', (_name, { holds, build }) => {
    const xml = decode(build({ genuine, signer, forged: { ...genuine, records: forgedRecords }, attacker }))
    expect(xml).not.toBe(decode(buildRim(genuine, signer)))
    expect(whatHolds(xml, signer.publicKey)).toBe(holds)
  })

  const real = [
    ['GH100', 'driver', 'hopper-550-90-07/driver-rim.xml'],
    ['GH100', 'vbios', 'hopper-550-90-07/vbios-rim.xml'],
    ['LS10', 'vbios', 'switch-ls10-96-10-55-00-01/bios-rim-signer-2026.xml'],
  ] as const
  it.skipIf(withoutVectors).each(real)(
    'of %s, %s, have the text of a real one but for values (skipped without captured evidence)',
    (family, kind, path) => {
      const captured = readFileSync(vectorPath('nvidia', path), 'utf8')
      const ours = decode(buildRim({ family, kind }, nvidia.issueRimSigner({ family })))
      expect(withoutValues(ours)).toBe(withoutValues(captured))
      // The reader loses nothing, and the canonical form is the one NVIDIA signed.
      const root = readXml(captured)
      expect(`${writeXml(root)}\n`).toBe(captured)
      expect(whatHolds(captured, firstKey(root))).toBe('all')
      const unsigned = { ...root, children: (root.children ?? []).slice(0, -1) }
      const digest = createHash('sha384').update(canonicalizeXml(unsigned)).digest('base64')
      expect(captured).toContain(`<ds:DigestValue>${digest}<`)
    },
  )
})

/** A manifest with version, golden values, record names and base64 taken out, and repeated alternatives as one. */
function withoutValues(xml: string): string {
  return xml
    .replaceAll(
      / (name|tagId|colloquialVersion|alternatives|active|ns1:\w+Str|ns1:FirmwareManufacturer)="[^"]*"/g,
      ' $1=""',
    )
    .replaceAll(/( ns2:Hash\d="[0-9a-f]{96}")+/g, ' hashes')
    .replaceAll(/<ds:(DigestValue|SignatureValue)>[A-Za-z0-9+/=]+</g, '<ds:$1><')
    .replaceAll(/<ds:X509Certificate>([A-Za-z0-9+/=]{64}\n)+[A-Za-z0-9+/=]{1,64}\n</g, '<ds:X509Certificate><')
}

describe('simulated GPU nodes', () => {
  const now = SIMULATED_EPOCH

  it('attest with one item a device, in the encoding of a bundle', async () => {
    for (const product of ['H100', 'B200'] as const) {
      const gpus = createSimulatedGpus({ now, product })
      const [item, ...more] = await gpus.attest(nonce)
      expect(more).toEqual([])
      const evidence = parseGpuEvidence(item!)
      expect(encodeGpuEvidence(evidence.report, evidence.chain)).toEqual(encodeForBundle(evidence))
      expect(evidence.chain).toEqual(gpus.devices[0]?.chain)
      expect(evidence.report.subarray(4, 36)).toEqual(nonce)
      const leaf = new X509Certificate(evidence.chain[0]!)
      const { signature } = gpuReportOffsets(evidence.report)
      const key = { key: leaf.publicKey, dsaEncoding: 'ieee-p1363' } as const
      expect(verify('sha384', evidence.report.subarray(0, signature), key, evidence.report.subarray(signature))).toBe(
        true,
      )
      const fields = new Map(readReport(evidence.report).opaque)
      expect(new Uint8Array(fields.get(OPAQUE.fwid)!)).toEqual(gpus.devices[0]?.fwid)
      expect(fields.get(OPAQUE.featureFlag)).toEqual(Buffer.of(0, 0))
      expect(gpus.endorsements.filter(({ type }) => type === 'application/xml').length).toBe(2)
      expect(gpus.endorsements.filter(({ type }) => type === 'application/ocsp-response').length).toBe(6)
    }
  })

  it('name each other in a node of eight GPUs and four switches', async () => {
    const gpus = createSimulatedGpus({ now, count: 8, switches: 4 })
    const items = (await gpus.attest(nonce)).map((item) => parseGpuEvidence(item))
    expect(items.length).toBe(12)
    expect(new Set(items.map(({ chain }) => Buffer.from(chain[0]!).toString('hex'))).size).toBe(12)
    const pdiOf = (chain: readonly Uint8Array[]): string =>
      new X509Certificate(chain[1]!).serialNumber.slice(2).toLowerCase()
    const own = items.map(({ chain }) => pdiOf(chain))
    const hex = (field: Buffer | undefined): string[] =>
      (field ?? Buffer.alloc(0)).toString('hex').match(/.{16}/g) ?? []
    for (const [place, { report }] of items.entries()) {
      const fields = new Map(readReport(report).opaque)
      if (place < 8) {
        const listed = hex(fields.get(OPAQUE.switchPdis)).map((pdi) =>
          Buffer.from(pdi, 'hex').reverse().toString('hex'),
        )
        expect(listed.length).toBe(18)
        expect(new Set(listed)).toEqual(new Set(own.slice(8)))
        expect(fields.get(OPAQUE.protectedPcie)).toEqual(Buffer.of(0xaa))
        expect(fields.get(OPAQUE.featureFlag)).toEqual(Buffer.of(2, 0))
      } else {
        expect(hex(fields.get(OPAQUE.switchPdis))).toEqual([own[place]])
        expect(hex(fields.get(OPAQUE.gpuPdis)).slice(0, 8)).toEqual(own.slice(0, 8))
        expect(fields.get(OPAQUE.lockStatus)).toEqual(Buffer.of(1, 0))
      }
    }
  })

  it('say what they are, for a day at most', async () => {
    const gpus = createSimulatedGpus({ now })
    expect(gpus.validUntil.getTime() - now.getTime()).toBeLessThanOrEqual(SIMULATED_LIFETIME_MS)
    const roots = gpus.rootsPem.match(/Kind: nvidia\nSIMULATED root, valid until 2026-01-01T23:55:00Z[^-]*-----BEGIN/g)
    expect(roots?.length).toBe(2)
    expect(gpus.rootsPem).not.toContain('PRIVATE')
    await expect(gpus.attest(new Uint8Array(31))).rejects.toThrow(RangeError)
    for (const wrong of [{ count: 0 }, { count: 9 }, { switches: 5 }, { switches: 1, product: 'B200' as const }]) {
      expect(() => createSimulatedGpus({ now, ...wrong })).toThrow(RangeError)
    }
  })

  it('staple manifests that their own signers signed', () => {
    const gpus = createSimulatedGpus({ now, count: 2, switches: 1 })
    const manifests = gpus.endorsements.filter(({ type }) => type === 'application/xml')
    expect(manifests.length).toBe(3)
    for (const { bytes } of manifests) {
      const root = readXml(new TextDecoder().decode(bytes))
      expect(whatHolds(new TextDecoder().decode(bytes), firstKey(root))).toBe('all')
      expect(elements(root, 'ds:Signature').length).toBe(1)
    }
  })
})
