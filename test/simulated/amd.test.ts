/**
 * The simulated AMD hierarchy and platform, checked by parties that share no code with it: the `openssl` command,
 * node:crypto, and the shape of real certificates where `SUBROSA_VECTORS` names a folder of captured evidence.
 */
import { spawnSync } from 'node:child_process'
import { createHash, createPublicKey, verify, X509Certificate } from 'node:crypto'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import forge from 'node-forge'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  type AmdHierarchy,
  type CertificateOverrides,
  createAmdHierarchy,
  createAmdHierarchyAsync,
  type IssuedLeaf,
  SIMULATED_EPOCH,
  SIMULATED_LIFETIME_MS,
  type SimulatedProduct,
  sharedAmdKeys,
} from '../../scripts/simulated/amd.js'
import { AMD_EXTENSION } from '../../scripts/simulated/amd-extensions.js'
import { buildCertificateTable } from '../../scripts/simulated/certificate-table.js'
import { toPem } from '../../scripts/simulated/der.js'
import { PRODUCTS } from '../../scripts/simulated/product.js'
import { createSimulatedSnpPlatform, SIMULATED_LAUNCH_DIGEST } from '../../scripts/simulated/snp-platform.js'
import {
  buildSnpReport,
  encodeTcb,
  SNP_REPORT_LAYOUT,
  SNP_SIGNED_BYTES,
  signSnpReport,
  snpKeyInfo,
  snpPlatformInfo,
  snpPolicy,
} from '../../scripts/simulated/snp-report.js'
import { vectorsFolder } from '../support/vectors.js'

const PRODUCT_NAMES: readonly SimulatedProduct[] = ['Milan', 'Genoa', 'Turin']
const NOON = new Date(SIMULATED_EPOCH.getTime() + SIMULATED_LIFETIME_MS / 2)

const hasOpenssl = spawnSync('openssl', ['version']).status === 0
const vectors = vectorsFolder
const folder = mkdtempSync(join(tmpdir(), 'subrosa-simulated-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const hierarchies = new Map<SimulatedProduct, AmdHierarchy>()
beforeAll(async () => {
  for (const product of PRODUCT_NAMES) {
    hierarchies.set(product, await createAmdHierarchyAsync({ product, keys: await sharedAmdKeys(product) }))
  }
})

function hierarchy(product: SimulatedProduct): AmdHierarchy {
  const found = hierarchies.get(product)
  if (found === undefined) throw new Error(`no hierarchy for ${product}`)
  return found
}

function hwid(product: SimulatedProduct): Uint8Array {
  // Starts like a DER INTEGER, as a raw hwID may.
  return Uint8Array.from({ length: PRODUCTS[product].hwidBytes }, (_, index) => index + 2)
}

function vcek(product: SimulatedProduct, overrides: CertificateOverrides = {}): IssuedLeaf {
  return hierarchy(product).issueVcek({ tcb: PRODUCTS[product].tcb, hwid: hwid(product), overrides })
}

function vlek(product: SimulatedProduct): IssuedLeaf {
  return hierarchy(product).issueVlek({ tcb: PRODUCTS[product].tcb, cspId: 'CN=cc.simulated.invalid' })
}

let files = 0
function file(content: string | Uint8Array): string {
  const path = join(folder, `${files++}.bin`)
  writeFileSync(path, content)
  return path
}

/** What `openssl verify` says of a leaf under a root, at noon of the simulated day. */
function opensslVerify(root: string, untrusted: string | null, leaf: string, ...options: string[]): string {
  const at = String(NOON.getTime() / 1000)
  const args = ['verify', '-check_ss_sig', '-attime', at, '-CAfile', file(root), ...options]
  const between = untrusted === null ? [] : ['-untrusted', file(untrusted)]
  const run = spawnSync('openssl', [...args, ...between, file(leaf)], { encoding: 'utf8' })
  return run.status === 0 ? 'OK' : `${run.stdout}${run.stderr}`
}

describe.each(PRODUCT_NAMES)('%s hierarchy', (product) => {
  it('chains by signature and name under node:crypto', () => {
    const amd = hierarchy(product)
    const ark = new X509Certificate(amd.arkDer)
    const ask = new X509Certificate(amd.askDer)
    const asvk = new X509Certificate(amd.asvkDer)
    const chains = [
      [ark, ark],
      [ask, ark],
      [asvk, ark],
      [new X509Certificate(vcek(product).der), ask],
      [new X509Certificate(vlek(product).der), asvk],
    ] as const
    for (const [child, issuer] of chains) {
      expect(child.verify(issuer.publicKey)).toBe(true)
      expect(child.issuer).toBe(issuer.subject)
    }
    expect(new X509Certificate(vcek(product).der).verify(asvk.publicKey)).toBe(false)
  })

  it('says SIMULATED in every subject and keeps AMD common names', () => {
    const amd = hierarchy(product)
    const names = [amd.arkDer, amd.askDer, amd.asvkDer, vcek(product).der, vlek(product).der].map(
      (der) => new X509Certificate(der).subject,
    )
    for (const name of names) expect(name).toContain('O=SIMULATED (not Advanced Micro Devices)')
    expect(names.map((name) => name.split('CN=')[1])).toEqual([
      `ARK-${product}`,
      `SEV-${product}`,
      `SEV-VLEK-${product}`,
      'SEV-VCEK',
      'SEV-VLEK',
    ])
  })

  it('has RSA-4096 authorities, P-384 leaves with serial 0, and a day of validity', () => {
    const amd = hierarchy(product)
    for (const der of [amd.arkDer, amd.askDer, amd.asvkDer]) {
      const certificate = new X509Certificate(der)
      expect(certificate.publicKey.asymmetricKeyDetails?.modulusLength).toBe(4096)
      expect(certificate.ca).toBe(true)
      expect(Date.parse(certificate.validTo) - Date.parse(certificate.validFrom)).toBe(SIMULATED_LIFETIME_MS)
    }
    for (const { der } of [vcek(product), vlek(product)]) {
      const certificate = new X509Certificate(der)
      expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe('secp384r1')
      expect(BigInt(`0x${certificate.serialNumber}`)).toBe(0n)
    }
  })

  it.skipIf(!hasOpenssl)('verifies with openssl (skipped without the openssl command)', () => {
    const amd = hierarchy(product)
    expect(opensslVerify(amd.arkPem, amd.askPem, vcek(product).pem)).toBe('OK')
    expect(opensslVerify(amd.arkPem, amd.asvkPem, vlek(product).pem)).toBe('OK')
    expect(opensslVerify(amd.arkPem, amd.asvkPem, vcek(product).pem)).toContain('unable to get local issuer')
  })

  it.skipIf(!hasOpenssl)('has a CRL that openssl verifies and obeys (skipped without the openssl command)', () => {
    const amd = hierarchy(product)
    const checkCrl = (der: Uint8Array): string =>
      spawnSync('openssl', ['crl', '-inform', 'der', '-in', file(der), '-CAfile', file(amd.arkPem), '-noout'], {
        encoding: 'utf8',
      }).stderr
    expect(checkCrl(amd.crl())).toContain('verify OK')
    expect(checkCrl(amd.crl({ signature: { corrupt: true } }))).toContain('verify failure')
    expect(checkCrl(amd.crl({ signWith: amd.keys.ask.privateKey }))).toContain('verify failure')

    const crlPem = (revokedSerials: readonly bigint[]): string => toPem('X509 CRL', amd.crl({ revokedSerials }))
    const verifyAsk = (crl: string): string =>
      opensslVerify(amd.arkPem, null, amd.askPem, '-crl_check', '-CRLfile', file(crl))
    expect(verifyAsk(crlPem([]))).toBe('OK')
    expect(verifyAsk(crlPem([0x20001n]))).toBe('OK')
    expect(verifyAsk(crlPem([0x20001n, PRODUCTS[product].askSerial]))).toContain('certificate revoked')
  })
})

describe('overrides', () => {
  const value = (der: Uint8Array, oid: string): string[] =>
    extensions(der)
      .filter((extension) => extension.oid === oid)
      .map((extension) => extension.valueHex)

  it('writes canonical SPLs and a raw hwID', () => {
    const { der } = vcek('Milan')
    expect(value(der, AMD_EXTENSION.ucodeSpl)).toEqual(['020200dd'])
    expect(value(der, AMD_EXTENSION.snpSpl)).toEqual(['02011a'])
    expect(value(der, AMD_EXTENSION.hwid)).toEqual([Buffer.from(hwid('Milan')).toString('hex')])
    expect(value(vcek('Turin').der, AMD_EXTENSION.spl4)).toEqual([])
    expect(value(vcek('Turin').der, AMD_EXTENSION.fmcSpl)).toEqual(['020101'])
    expect(value(vlek('Genoa').der, AMD_EXTENSION.hwid)).toEqual([])
    expect(value(vlek('Genoa').der, AMD_EXTENSION.cspId)).toEqual([
      Buffer.from('\x16\x17CN=cc.simulated.invalid', 'latin1').toString('hex'),
    ])
  })

  it('omits, duplicates, replaces and adds extensions', () => {
    const bytes = Uint8Array.of(2, 1, 7)
    const edited = (edit: NonNullable<CertificateOverrides['extensions']>[number]): Uint8Array =>
      vcek('Genoa', { extensions: [edit] }).der
    expect(value(edited({ oid: AMD_EXTENSION.hwid, omit: true }), AMD_EXTENSION.hwid)).toEqual([])
    expect(value(edited({ oid: AMD_EXTENSION.blSpl, duplicate: true }), AMD_EXTENSION.blSpl)).toEqual([
      '02010a',
      '02010a',
    ])
    const twice = edited({ oid: AMD_EXTENSION.blSpl, duplicate: true, value: bytes })
    expect(value(twice, AMD_EXTENSION.blSpl)).toEqual(['02010a', '020107'])
    expect(value(edited({ oid: AMD_EXTENSION.blSpl, value: bytes }), AMD_EXTENSION.blSpl)).toEqual(['020107'])
    expect(value(edited({ oid: AMD_EXTENSION.cspId, value: bytes }), AMD_EXTENSION.cspId)).toEqual(['020107'])
    const critical = extensions(edited({ oid: AMD_EXTENSION.teeSpl, value: bytes, critical: true }))
    expect(critical.find((extension) => extension.oid === AMD_EXTENSION.teeSpl)?.critical).toBe(true)
  })

  it('breaks names, keys, curves, dates and signatures on request', () => {
    const amd = hierarchy('Genoa')
    const ask = new X509Certificate(amd.askDer)
    const parsed = (overrides: CertificateOverrides): X509Certificate =>
      new X509Certificate(vcek('Genoa', overrides).der)
    expect(parsed({ subject: { commonName: 'SEV-VLEK' } }).subject).toContain('CN=SEV-VLEK')
    expect(parsed({ issuer: { commonName: 'SEV-Milan' } }).issuer).toContain('CN=SEV-Milan')
    expect(parsed({ serialNumber: 0x1234n }).serialNumber).toBe('1234')
    expect(parsed({ notAfter: new Date('2060-01-01T00:00:00Z') }).validTo).toBe('Jan  1 00:00:00 2060 GMT')
    expect(parsed({ signWith: hierarchy('Milan').keys.ask.privateKey }).verify(ask.publicKey)).toBe(false)
    expect(parsed({ signature: { corrupt: true } }).verify(ask.publicKey)).toBe(false)
    expect(
      parsed({ signature: { saltLength: 48, stated: { hash: 'sha384', saltLength: 20 } } }).verify(ask.publicKey),
    ).toBe(false)
    expect(parsed({ signature: { statedOutside: { hash: 'sha256', saltLength: 32 } } }).verify(ask.publicKey)).toBe(
      false,
    )
    // Wrong but consistent: valid under any parameters, so only a verifier that insists on AMD's refuses them.
    expect(parsed({ signature: { hash: 'sha256', saltLength: 32 } }).verify(ask.publicKey)).toBe(true)
    expect(parsed({ signature: { saltLength: 20 } }).verify(ask.publicKey)).toBe(true)
    expect(parsed({ signature: { scheme: 'pkcs1' } }).verify(ask.publicKey)).toBe(true)

    const request = { tcb: PRODUCTS.Genoa.tcb, hwid: hwid('Genoa') }
    const p256 = new X509Certificate(amd.issueVcek({ ...request, curve: 'P-256' }).der)
    expect(p256.publicKey.asymmetricKeyDetails?.namedCurve).toBe('prime256v1')
    const fromAsvk = new X509Certificate(amd.issueVcek({ ...request, issuer: 'asvk' }).der)
    expect(fromAsvk.issuer).toContain('CN=SEV-VLEK-Genoa')
    expect(fromAsvk.verify(new X509Certificate(amd.asvkDer).publicKey)).toBe(true)
    const { privateKey, publicKey } = vcek('Genoa')
    const underLeaf = new X509Certificate(amd.issueVcek({ ...request, overrides: { signWith: privateKey } }).der)
    expect(underLeaf.verify(publicKey)).toBe(true)
  })

  it('makes its own keys, of the size asked for', () => {
    const made = new X509Certificate(createAmdHierarchy({ product: 'Milan', rsaBits: 2048 }).askDer)
    expect(made.publicKey.asymmetricKeyDetails?.modulusLength).toBe(2048)
  })

  it('breaks authorities on request', async () => {
    const keys = await sharedAmdKeys('Genoa')
    const stranger = await sharedAmdKeys('Milan')
    const broken = createAmdHierarchy({
      product: 'Genoa',
      keys,
      commonNameSuffix: '-X',
      overrides: { ask: { signWith: stranger.ark.privateKey }, asvk: { subject: { commonName: 'SEV-Genoa' } } },
    })
    const ark = new X509Certificate(broken.arkDer)
    expect(ark.subject).toContain('CN=ARK-Genoa-X')
    expect(ark.verify(ark.publicKey)).toBe(true)
    expect(new X509Certificate(broken.askDer).verify(ark.publicKey)).toBe(false)
    expect(new X509Certificate(broken.asvkDer).subject).toMatch(/CN=SEV-Genoa$/)
    expect(() => createAmdHierarchy({ product: 'Genoa', keys, notBefore: NOON, notAfter: NOON })).toThrow(RangeError)
  })
})

describe('report', () => {
  it('has a layout without gaps or overlaps, ending where the signature starts', () => {
    let end = 0
    for (const [offset, size] of Object.values(SNP_REPORT_LAYOUT)) {
      expect(offset).toBe(end)
      end = offset + size
    }
    expect(end).toBe(SNP_SIGNED_BYTES)
  })

  it('is 1184 bytes, and follows the version', () => {
    const text = (version: number, offset: number, length: number): string =>
      Buffer.from(buildSnpReport({ product: 'Genoa', version }).subarray(offset, offset + length)).toString('hex')
    for (const version of [2, 3, 4, 5]) {
      expect(buildSnpReport({ version })).toHaveLength(1184)
      expect(text(version, 0, 4)).toBe(`0${version}000000`)
      expect(text(version, 0x188, 3)).toBe(version === 2 ? '000000' : '191101')
      expect(text(version, 0x1f8, 16)).toBe(version === 5 ? '0b000000000000000b00000000000000' : '0'.repeat(32))
      expect(text(version, 0x40, 1)).toBe(version === 2 ? '05' : '25')
    }
    // build, minor, major
    expect(text(5, 0x1e8, 3)).toBe('323701')
  })

  it('lays out the TCB by product and the bit fields by position', () => {
    const tcb = { fmc: 1, bl: 2, tee: 3, snp: 4, ucode: 5 }
    expect(Buffer.from(encodeTcb('Genoa', tcb)).toString('hex')).toBe('0203000000000405')
    expect(Buffer.from(encodeTcb('Turin', tcb)).toString('hex')).toBe('0102030400000005')
    expect(() => encodeTcb('Genoa', { ...tcb, snp: 256 })).toThrow(RangeError)
    expect(snpPolicy()).toBe(0x3001fn)
    expect(snpPolicy({ abiMinor: 0, debug: true })).toBe(0xb0000n)
    expect(snpPlatformInfo()).toBe(0x25n)
    expect(snpPlatformInfo({ reserved6: true })).toBe(0x65n)
    expect(snpKeyInfo({ signingKey: 1, authorKeyEn: true })).toBe(5)
    expect(() => buildSnpReport({ reportData: new Uint8Array(63) })).toThrow(RangeError)
    expect(() => buildSnpReport({ vmpl: -1 })).toThrow(RangeError)
  })

  it.each(['P-384', 'P-256'] as const)('signs little-endian with %s', (curve) => {
    const leaf = hierarchy('Genoa').issueVcek({ tcb: PRODUCTS.Genoa.tcb, hwid: hwid('Genoa'), curve })
    const report = signSnpReport(buildSnpReport({ reportData: new Uint8Array(64).fill(9) }), leaf.privateKey)
    expect(reportVerifies(report, leaf.der, curve === 'P-384' ? 48 : 32)).toBe(true)
    report[0x50] = 8
    expect(reportVerifies(report, leaf.der, curve === 'P-384' ? 48 : 32)).toBe(false)
  })
})

describe.each(PRODUCT_NAMES)('%s platform', (product) => {
  const now = new Date('2026-05-04T03:02:01.500Z')

  it('attests with a report its own endorsements vouch for', async () => {
    const hostData = new Uint8Array(32).fill(7)
    const platform = await createSimulatedSnpPlatform({ product, hostData, now, keys: await sharedAmdKeys(product) })
    const [vcekDer, askDer, arkDer, crlDer] = platform.endorsements
    if (!vcekDer || !askDer || !arkDer || !crlDer) throw new Error('expected four endorsements')
    const reportData = new Uint8Array(64).map((_, index) => index)
    const report = await platform.attest(reportData)
    const at = (offset: number, length: number): Uint8Array => report.subarray(offset, offset + length)

    expect(reportVerifies(report, vcekDer, 48)).toBe(true)
    expect(at(0x50, 64)).toEqual(reportData)
    expect(at(0x90, 48)).toEqual(SIMULATED_LAUNCH_DIGEST)
    expect(at(0xc0, 32)).toEqual(hostData)
    expect(at(0x1a0, 64)).toEqual(platform.chipId)
    for (const offset of [0x38, 0x180, 0x1e0, 0x1f0]) expect(at(offset, 8)).toEqual(encodeTcb(product, platform.tcb))
    const hwidHex = extensions(vcekDer).find((extension) => extension.oid === AMD_EXTENSION.hwid)?.valueHex
    expect(hwidHex).toBe(Buffer.from(platform.chipId.subarray(0, PRODUCTS[product].hwidBytes)).toString('hex'))

    const leaf = new X509Certificate(vcekDer)
    const ask = new X509Certificate(askDer)
    const ark = new X509Certificate(arkDer)
    expect(leaf.verify(ask.publicKey)).toBe(true)
    expect(ask.verify(ark.publicKey)).toBe(true)
    for (const certificate of [leaf, ask, ark]) {
      expect(Date.parse(certificate.validTo)).toBe(platform.validUntil.getTime())
      expect(Date.parse(certificate.validFrom)).toBeLessThan(now.getTime())
    }
    expect(platform.validUntil.getTime() - now.getTime()).toBeLessThan(SIMULATED_LIFETIME_MS)
    expect(platform.rootsPem).toMatch(
      /^Kind: snp\nSIMULATED root, valid until 2026-05-05T02:57:01Z; trust it for development only\n-----BEGIN CERT/,
    )
    expect(new X509Certificate(platform.rootsPem).raw.equals(Buffer.from(arkDer))).toBe(true)
  })

  it('refuses wrong lengths', async () => {
    const keys = await sharedAmdKeys(product)
    const platform = await createSimulatedSnpPlatform({ product, hostData: new Uint8Array(32), now, keys })
    await expect(platform.attest(new Uint8Array(63))).rejects.toThrow(RangeError)
    await expect(createSimulatedSnpPlatform({ product, hostData: new Uint8Array(31), now, keys })).rejects.toThrow(
      RangeError,
    )
  })
})

describe('certificate table', () => {
  it('places certificates after a terminated header', () => {
    const table = buildCertificateTable([
      { guid: 'vcek', blob: Uint8Array.of(1, 2, 3) },
      { guid: 'ark', blob: Uint8Array.of(4) },
    ])
    expect(Buffer.from(table).toString('hex')).toBe(
      '63da758de6644564adc5f4b93be8accd4800000003000000' +
        'c0b406a4a803495297433fb6014cd0ae4b00000001000000' +
        '000000000000000000000000000000000000000000000000' +
        '01020304',
    )
    expect(() => buildCertificateTable([{ guid: 'nonsense', blob: new Uint8Array() }])).toThrow(RangeError)
  })

  it.skipIf(vectors === undefined)('rebuilds a real table byte for byte (skipped without captured evidence)', () => {
    const real = readVector('snp/genoa-v3-tsm-auxblob-cert-table.bin')
    const entry = (guid: string, offset: number, length: number) => ({
      guid,
      blob: real.subarray(offset, offset + length),
    })
    const rebuilt = buildCertificateTable([entry('ark', 96, 2277), entry('ask', 2373, 2325), entry('vcek', 4698, 1879)])
    expect(Buffer.from(rebuilt).equals(real)).toBe(true)
  })
})

describe.skipIf(vectors === undefined)('shape of real certificates (skipped without captured evidence)', () => {
  const amd = (product: SimulatedProduct): AmdHierarchy => hierarchy(product)
  const cases: readonly (readonly [string, () => Uint8Array])[] = [
    ['roots/amd-ark-milan.der', () => amd('Milan').arkDer],
    ['roots/amd-ask-milan.der', () => amd('Milan').askDer],
    ['roots/amd-asvk-milan.der', () => amd('Milan').asvkDer],
    ['roots/amd-ark-genoa.der', () => amd('Genoa').arkDer],
    ['roots/amd-ask-genoa.der', () => amd('Genoa').askDer],
    ['roots/amd-asvk-genoa.der', () => amd('Genoa').asvkDer],
    ['roots/amd-ark-turin.der', () => amd('Turin').arkDer],
    ['roots/amd-ask-turin.der', () => amd('Turin').askDer],
    ['roots/amd-asvk-turin.der', () => amd('Turin').asvkDer],
    ['snp/milan-v3-dstack-reported-below-current-vcek.der', () => vcek('Milan').der],
    ['snp/milan-v2-azure-vcek.der', () => vcek('Milan', { signature: { statesTrailerField: true } }).der],
    ['snp/genoa-v3-aci-vcek.der', () => vcek('Genoa').der],
    ['snp/siena-v5-baremetal-vcek.der', () => vcek('Genoa').der],
    ['snp/turin-v5-aci-vcek.der', () => vcek('Turin').der],
    ['snp/milan-v3-aws-vlek-vlek.der', () => vlek('Milan').der],
    ['snp/crl-milan-2025-05.der', () => amd('Milan').crl()],
    ['snp/crl-genoa-2024-10.der', () => amd('Genoa').crl({ revokedSerials: [0x20001n] })],
  ]

  it.each(cases)('%s', (name, simulated) => {
    const real = readVector(name)
    expect(skeleton(simulated())).toEqual(skeleton(real))
    if (name.includes('crl')) return
    expect(extensions(simulated()).map(({ oid, critical }) => ({ oid, critical }))).toEqual(
      extensions(real).map(({ oid, critical }) => ({ oid, critical })),
    )
    // The values that do not depend on a key, a chip, a firmware level or a host name are AMD's own.
    const fixed = ['2.5.29.15', '2.5.29.19', AMD_EXTENSION.structVersion, AMD_EXTENSION.productName, AMD_EXTENSION.spl5]
    const fixedValues = (der: Uint8Array): string[] =>
      extensions(der)
        .filter((extension) => fixed.includes(extension.oid))
        .map((extension) => `${extension.oid}=${extension.valueHex}`)
    expect(fixedValues(simulated())).toEqual(fixedValues(real))
    if (name.startsWith('roots/')) {
      expect(new X509Certificate(simulated()).serialNumber).toBe(new X509Certificate(real).serialNumber)
    }
  })

  it('names a key as AMD does', () => {
    const real = new X509Certificate(readVector('roots/amd-ark-genoa.der'))
    const identifier = createHash('sha1')
      .update(real.publicKey.export({ type: 'pkcs1', format: 'der' }))
      .digest('hex')
    const subjectKeyIdentifier = (der: Uint8Array): string | undefined =>
      extensions(der).find((extension) => extension.oid === '2.5.29.14')?.valueHex
    expect(subjectKeyIdentifier(real.raw)).toBe(`0414${identifier}`)
    const key = createPublicKey(
      new X509Certificate(amd('Genoa').arkDer).publicKey.export({ type: 'spki', format: 'pem' }),
    )
    const ours = createHash('sha1')
      .update(key.export({ type: 'pkcs1', format: 'der' }))
      .digest('hex')
    expect(subjectKeyIdentifier(amd('Genoa').arkDer)).toBe(`0414${ours}`)
  })
})

describe.skipIf(vectors === undefined)('fields of real reports (skipped without captured evidence)', () => {
  it.each([
    ['snp/siena-v5-baremetal-report.bin', 'Genoa', 5],
    ['snp/turin-v5-aci-report.bin', 'Turin', 5],
    ['snp/genoa-v3-aci-report.bin', 'Genoa', 3],
    ['snp/milan-v4-gcp-no-vcek-report.bin', 'Milan', 4],
    ['snp/milan-v2-azure-report.bin', 'Milan', 2],
  ] as const)('%s leaves zero what we leave zero', (name, product, version) => {
    const real = readVector(name)
    const filled = new Uint8Array(64).fill(0xff)
    const simulated = buildSnpReport({ product, version, chipId: filled.subarray(0, PRODUCTS[product].hwidBytes) })
    const zero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0)
    for (const field of ['reserved04c', 'cpuidFamId', 'reserved18b', 'chipId', 'reserved1eb', 'reserved1ef'] as const) {
      const [offset, size] = SNP_REPORT_LAYOUT[field]
      expect(zero(simulated.subarray(offset, offset + size)), field).toBe(zero(real.subarray(offset, offset + size)))
    }
    expect(zero(simulated.subarray(0x1a8, 0x1e0))).toBe(zero(real.subarray(0x1a8, 0x1e0)))
    expect(zero(simulated.subarray(0x1f8, 0x208))).toBe(zero(real.subarray(0x1f8, 0x208)))
    // Component by component, our firmware is at least as new.
    for (const offset of [0x38, 0x180, 0x1e0, 0x1f0]) {
      for (let index = offset; index < offset + 8; index++) {
        expect(simulated[index]).toBeGreaterThanOrEqual(real[index] ?? 0)
      }
    }
  })
})

function readVector(name: string): Buffer {
  const path = join(vectors ?? '', name)
  if (!existsSync(path)) throw new Error(`SUBROSA_VECTORS has no ${name}`)
  return readFileSync(path)
}

/** Checks a report's signature by way of DER, so that nothing of the signer's encoding is reused. */
function reportVerifies(report: Uint8Array, leafDer: Uint8Array, scalarBytes: number): boolean {
  const scalar = (offset: number): Buffer => {
    const field = Buffer.from(report.subarray(offset, offset + 72)).reverse()
    expect(field.subarray(0, 72 - scalarBytes).every((byte) => byte === 0)).toBe(true)
    return field.subarray(72 - scalarBytes)
  }
  const derInteger = (value: Buffer): Buffer => {
    let start = 0
    while (start < value.length - 1 && value[start] === 0) start++
    const trimmed = value.subarray(start)
    const content = (trimmed[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), trimmed]) : trimmed
    return Buffer.concat([Buffer.of(2, content.length), content])
  }
  expect(report.subarray(0x330).every((byte) => byte === 0)).toBe(true)
  const body = Buffer.concat([derInteger(scalar(0x2a0)), derInteger(scalar(0x2e8))])
  const signature = Buffer.concat([Buffer.of(0x30, body.length), body])
  return verify('sha384', report.subarray(0, 0x2a0), new X509Certificate(leafDer).publicKey, signature)
}

interface ReadExtension {
  readonly oid: string
  readonly critical: boolean
  readonly valueHex: string
}

/** Extensions of a certificate, read back from its bytes. */
function extensions(der: Uint8Array): ReadExtension[] {
  const certificate = children(forge.asn1.fromDer(Buffer.from(der).toString('latin1')))
  const body = children(certificate[0])
  const list = body.find((node) => node.tagClass === forge.asn1.Class.CONTEXT_SPECIFIC && Number(node.type) === 3)
  return children(children(list)[0]).map((extension) => {
    const parts = children(extension)
    const [first, last] = [parts[0], parts[parts.length - 1]]
    return {
      oid: forge.asn1.derToOid(forge.util.createBuffer(String(first?.value))),
      critical: parts.length === 3,
      valueHex: Buffer.from(String(last?.value), 'latin1').toString('hex'),
    }
  })
}

/** Tags, nesting and object identifiers of a structure, without its values. */
function skeleton(der: Uint8Array): unknown {
  const walk = (node: forge.asn1.Asn1): unknown => {
    const tag = `${node.tagClass}/${node.type}`
    if (node.tagClass === 0 && node.type === forge.asn1.Type.BITSTRING) return tag
    if (Array.isArray(node.value)) return [tag, ...node.value.map(walk)]
    if (node.tagClass === 0 && node.type === forge.asn1.Type.OID) {
      return forge.asn1.derToOid(forge.util.createBuffer(node.value))
    }
    return tag
  }
  return walk(forge.asn1.fromDer(Buffer.from(der).toString('latin1')))
}

function children(node: forge.asn1.Asn1 | undefined): forge.asn1.Asn1[] {
  if (node === undefined || !Array.isArray(node.value)) throw new Error('expected a constructed node')
  return node.value
}
