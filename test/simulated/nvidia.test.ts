/**
 * The simulated NVIDIA hierarchies and OCSP responder, checked by parties that share no code with them: the `openssl`
 * command, node:crypto, and the shape of captured certificates where there are any. No real OCSP response could be had,
 * so those are held against what `openssl ocsp` writes.
 */
import { spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import forge from 'node-forge'
import { afterAll, describe, expect, it } from 'vitest'
import { toPem } from '../../scripts/simulated/der.js'
import { buildOcspError, createOcspService, type StapleRequest } from '../../scripts/simulated/gpu-ocsp.js'
import {
  createNvidiaHierarchy,
  type DeviceFamily,
  generateEcKeys,
  type IssuedCertificate,
  NVIDIA_EXTENSION,
  SIMULATED_EPOCH,
  SIMULATED_LIFETIME_MS,
} from '../../scripts/simulated/nvidia.js'
import { encodeCompositeDeviceId, encodeExtendedKeyUsage } from '../../scripts/simulated/nvidia-extensions.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'

const NOON = String((SIMULATED_EPOCH.getTime() + SIMULATED_LIFETIME_MS / 2) / 1000)
const hasOpenssl = spawnSync('openssl', ['version']).status === 0
const folder = mkdtempSync(join(tmpdir(), 'subrosa-simulated-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const FAMILIES = ['GH100', 'GB100', 'LS10'] as const satisfies readonly DeviceFamily[]
const nvidia = createNvidiaHierarchy()
const ocsp = createOcspService(nvidia)
const devices = {
  GH100: nvidia.issueDevice({ family: 'GH100' }),
  GB100: nvidia.issueDevice({ family: 'GB100' }),
  LS10: nvidia.issueDevice({ family: 'LS10' }),
}
const signers = {
  GH100: nvidia.issueRimSigner({ family: 'GH100' }),
  GB100: nvidia.issueRimSigner({ family: 'GB100' }),
  LS10: nvidia.issueRimSigner({ family: 'LS10' }),
}

let files = 0
function file(content: string | Uint8Array): string {
  const path = join(folder, `${files++}.bin`)
  writeFileSync(path, content)
  return path
}

/** What `openssl verify` says of a chain, leaf first, under the root, at noon of the simulated day. */
function opensslVerify(chain: readonly Uint8Array[], root: IssuedCertificate): string {
  const pem = chain.map((der) => toPem('CERTIFICATE', der))
  const untrusted = ['-untrusted', file(pem.slice(1).join(''))]
  const args = ['verify', '-x509_strict', '-check_ss_sig', '-attime', NOON, '-CAfile', file(root.pem), ...untrusted]
  const run = spawnSync('openssl', [...args, file(pem[0] ?? '')], { encoding: 'utf8' })
  return run.status === 0 ? 'OK' : `${run.stdout}${run.stderr}`
}

describe('NVIDIA hierarchies', () => {
  it.each(FAMILIES)('chain five device certificates and four manifest ones for %s under node:crypto', (family) => {
    for (const [chain, length] of [
      [devices[family].chain, 5],
      [signers[family].chain, 4],
    ] as const) {
      expect(chain.length).toBe(length)
      const certificates = chain.map((der) => new X509Certificate(der))
      for (const [place, certificate] of certificates.entries()) {
        const issuer = certificates[place + 1] ?? certificate
        expect(certificate.verify(issuer.publicKey)).toBe(true)
        expect(certificate.issuer).toBe(issuer.subject)
        expect(certificate.ca).toBe(place > 0)
        expect(certificate.publicKey.asymmetricKeyDetails?.namedCurve).toBe('secp384r1')
        expect(Date.parse(certificate.validTo) - Date.parse(certificate.validFrom)).toBe(SIMULATED_LIFETIME_MS)
        expect(certificate.subject).toContain('O=SIMULATED (not NVIDIA Corporation)')
      }
    }
  })

  it('names and numbers them as NVIDIA does', () => {
    const names = (chain: readonly Uint8Array[]): (string | undefined)[] =>
      chain.map((der) => /CN=(.*)/.exec(new X509Certificate(der).subject)?.[1])
    expect(names(devices.GH100.chain)).toEqual([
      'GH100 A01 GSP FMC LF',
      'GH100 A01 GSP BROM',
      'NVIDIA GH100 Provisioner ICA 1',
      'NVIDIA GH100 Identity',
      'NVIDIA Device Identity CA',
    ])
    expect(names(devices.GB100.chain).slice(0, 4)).toEqual([
      'GB100 A01 GSP FMC LF',
      'GB100 A01 GSP BROM',
      'NVIDIA GB100 Provisioner ICA 00000',
      'NVIDIA GB100 Identity',
    ])
    expect(names(devices.LS10.chain).slice(0, 4)).toEqual([
      'LS_10 A01 FSP FMC LF',
      'LS_10 A01 FSP BROM',
      'NVIDIA LS_10 Provisioner ICA 1',
      'NVIDIA GH100 Identity',
    ])
    expect(names(signers.GB100.chain)).toEqual([
      'HCC RIM L4 Signer',
      'NVIDIA Reference Value L3 GB100-CC 001',
      'NVIDIA Reference Value GB1XX CA 001',
      'NVIDIA CoRIM signing Root CA',
    ])
    for (const family of FAMILIES) {
      const { brom, pdi, chain } = devices[family]
      const serial = `${family === 'LS10' ? '50' : '41'}${Buffer.from(pdi).toString('hex')}`.toUpperCase()
      expect(new X509Certificate(brom.der).serialNumber).toBe(serial)
      const leaf = new X509Certificate(chain[0]!)
      expect(leaf.subject).toContain(`serialNumber=${leaf.serialNumber}`)
      expect(leaf.serialNumber).toMatch(/^[4-7][0-9A-F]{39}$/)
    }
  })

  it('writes the firmware id where each family has it', () => {
    for (const family of FAMILIES) {
      const { der, fwid, publicKey } = devices[family]
      const { extensions } = outline(der)
      const id = extensions.find(({ oid }) => oid.startsWith('2.23.133.5.4.1'))
      expect(id?.oid).toBe(family === 'GB100' ? NVIDIA_EXTENSION.tcbInfo : NVIDIA_EXTENSION.compositeDeviceId)
      if (family !== 'GB100') expect(id?.value).toEqual(Buffer.from(encodeCompositeDeviceId(publicKey, fwid)))
      expect(id?.value.includes(Buffer.from(fwid))).toBe(true)
    }
  })

  it.skipIf(!hasOpenssl)('verify with openssl (skipped without the openssl command)', () => {
    for (const family of FAMILIES) {
      expect(opensslVerify(devices[family].chain, nvidia.deviceRoot)).toBe('OK')
      expect(opensslVerify(signers[family].chain, nvidia.rimRoot)).toBe('OK')
      expect(opensslVerify(devices[family].chain, nvidia.rimRoot)).toContain('self-signed certificate in')
    }
  })

  it.skipIf(!hasOpenssl)('bend as asked, which openssl notices (skipped without the openssl command)', () => {
    const stranger = generateEcKeys('P-384').privateKey
    const family = 'GH100'
    const cases = [
      [{ overrides: { signWith: stranger } }, 'certificate signature failure'],
      [{ bromOverrides: { signWith: stranger } }, 'certificate signature failure'],
      [{ notBefore: new Date(0), notAfter: SIMULATED_EPOCH }, 'certificate has expired'],
      [{ overrides: { signature: { corrupt: true as const } } }, 'certificate signature failure'],
      [
        { bromOverrides: { extensions: [{ oid: NVIDIA_EXTENSION.basicConstraints, omit: true as const }] } },
        'invalid CA',
      ],
      [{ overrides: { issuer: { commonName: 'other' } } }, 'unable to get'],
    ] as const
    for (const [request, complaint] of cases) {
      expect(opensslVerify(nvidia.issueDevice({ family, ...request }).chain, nvidia.deviceRoot)).toContain(complaint)
    }
    const bare = nvidia.issueDevice({
      family,
      overrides: { extensions: [{ oid: NVIDIA_EXTENSION.compositeDeviceId, omit: true }] },
    })
    expect(outline(bare.der).extensions.map(({ oid }) => oid)).not.toContain(NVIDIA_EXTENSION.compositeDeviceId)
    expect(
      new X509Certificate(nvidia.issueDevice({ family, curve: 'P-256' }).der).publicKey.asymmetricKeyDetails,
    ).toEqual({
      namedCurve: 'prime256v1',
    })
  })

  const real = [
    ['GH100', 'hopper-550-90-07/device-chain.pem'],
    ['GB100', 'blackwell-gb100-575-32/device-chain.pem'],
    ['LS10', 'switch-ls10-96-10-55-00-01/device-chain.pem'],
  ] as const
  it.skipIf(withoutVectors).each(real)(
    'have the shape of a real %s chain (skipped without captured evidence)',
    (family, path) => {
      const chain = pemBlocks(readFileSync(vectorPath('nvidia', path), 'utf8'))
      expect(devices[family].chain.map((der) => outline(der).shape)).toEqual(chain.map((der) => outline(der).shape))
    },
  )

  const realSigners = [
    ['GH100', 'hopper-550-90-07/driver-rim.xml'],
    ['LS10', 'switch-ls10-96-10-55-00-01/bios-rim-signer-2026.xml'],
  ] as const
  it.skipIf(withoutVectors).each(realSigners)(
    'have the shape of a real %s manifest signer chain (skipped without captured evidence)',
    (family, path) => {
      const xml = readFileSync(vectorPath('nvidia', path), 'utf8')
      const chain = [...xml.matchAll(/<ds:X509Certificate>([^<]*)/g)].map(([, text = '']) =>
        Buffer.from(text, 'base64'),
      )
      expect(signers[family].chain.map((der) => outline(der).shape)).toEqual(chain.map((der) => outline(der).shape))
    },
  )
})

describe('OCSP responses', () => {
  const { brom } = devices.GH100

  /** What `openssl ocsp` says, with the issuers of the simulated chain at hand; its clock is the machine's. */
  function opensslOcsp(request: StapleRequest, hash: 'sha1' | 'sha256' | 'sha384' = 'sha256'): string {
    const [, , ...above] = devices.GH100.chain.map((der) => toPem('CERTIFICATE', der))
    const response = file(ocsp.staple(brom, { hash, ...request }))
    const args = [
      'ocsp',
      '-respin',
      response,
      '-CAfile',
      file(nvidia.deviceRoot.pem),
      '-verify_other',
      file(above.join('')),
    ]
    const subject = [`-${hash}`, '-issuer', file(above[0] ?? ''), '-cert', file(brom.pem)]
    const run = spawnSync('openssl', [...args, '-attime', NOON, '-no_nonce', ...subject], { encoding: 'utf8' })
    return `${run.stdout}${run.stderr}`
  }

  it.skipIf(!hasOpenssl)('read as what they say with openssl (skipped without the openssl command)', () => {
    const verified = 'Response verify OK'
    for (const hash of ['sha1', 'sha256', 'sha384'] as const) {
      expect(opensslOcsp({}, hash)).toContain(verified)
      expect(opensslOcsp({}, hash)).toMatch(/^good$/m)
    }
    for (const status of ['revoked', 'hold', 'unknown'] as const) expect(opensslOcsp({ status })).toContain(verified)
    expect(opensslOcsp({ status: 'revoked' })).toMatch(/^revoked[\s\S]*Reason: keyCompromise/m)
    expect(opensslOcsp({ status: 'revoked', reason: null })).not.toContain('Reason')
    expect(opensslOcsp({ status: 'hold' })).toMatch(/^revoked[\s\S]*Reason: certificateHold/m)
    expect(opensslOcsp({ status: 'unknown' })).toMatch(/^unknown$/m)
    expect(opensslOcsp({ broken: { responderId: 'key' } })).toContain('Response verify OK')
    expect(opensslOcsp({ nonce: new Uint8Array(32) })).toContain('Response verify OK')
  })

  it.skipIf(!hasOpenssl)('bend as asked, which openssl notices (skipped without the openssl command)', () => {
    const issuer = 'gh100Provisioner'
    const keyUsage = { oid: NVIDIA_EXTENSION.extendedKeyUsage }
    const tls = encodeExtendedKeyUsage(['1.3.6.1.5.5.7.3.1'])
    const responders = [
      nvidia.issueResponder({ issuer, overrides: { extensions: [{ ...keyUsage, omit: true }] } }),
      nvidia.issueResponder({ issuer, overrides: { extensions: [{ ...keyUsage, value: tls }] } }),
      nvidia.issueResponder({ issuer: 'gb100Provisioner' }),
      nvidia.issueResponder({ issuer, notBefore: new Date(0), notAfter: SIMULATED_EPOCH }),
    ]
    for (const responder of responders) expect(opensslOcsp({ responder })).toContain('Response Verify Failure')
    expect(opensslOcsp({ broken: { signature: 'corrupt' } })).toContain('Response Verify Failure')
    expect(opensslOcsp({ broken: { certificates: [] } })).toContain('Response Verify Failure')
    expect(opensslOcsp({ broken: { responseStatus: 6 } })).toContain('unauthorized')
    const error = spawnSync('openssl', ['ocsp', '-respin', file(buildOcspError(6))], { encoding: 'utf8' })
    expect(`${error.stdout}${error.stderr}`).toContain('unauthorized')
  })

  it.skipIf(!hasOpenssl)('have the shape of what openssl writes (skipped without the openssl command)', () => {
    const responder = ocsp.responder('gh100Provisioner')
    const issuerFile = file(nvidia.authorities.gh100Provisioner.pem)
    const request = join(folder, 'request.der')
    const response = join(folder, 'response.der')
    const key = file(String(responder.privateKey.export({ type: 'pkcs8', format: 'pem' })))
    const serial = brom.serialNumber.toString(16).toUpperCase()
    const index = file(`V\t270101000000Z\t\t${serial}\tunknown\t/CN=simulated\n`)
    spawnSync('openssl', ['ocsp', '-sha256', '-issuer', issuerFile, '-cert', file(brom.pem), '-reqout', request])
    const signing = ['-rsigner', file(responder.pem), '-rkey', key, '-rmd', 'sha384']
    const window = ['-index', index, '-CA', issuerFile, '-ndays', '1']
    const run = spawnSync('openssl', ['ocsp', ...window, ...signing, '-reqin', request, '-respout', response])
    expect(String(run.stderr)).not.toMatch(/error/i)
    const ours = ocsp.staple(brom, { nonce: new Uint8Array(16) })
    expect(nodeShape(basicResponse(ours))).toEqual(nodeShape(basicResponse(readFileSync(response))))
  })
})

/** Certificates of a PEM file in DER. */
function pemBlocks(text: string): Uint8Array[] {
  return [...text.matchAll(/-----BEGIN CERTIFICATE-----([^-]*)/g)].map(([, body = '']) => Buffer.from(body, 'base64'))
}

interface Outline {
  /** Names' attributes and string types, key and signature algorithms, extensions in order, and their inner structure. */
  readonly shape: unknown
  readonly extensions: readonly { readonly oid: string; readonly value: Buffer }[]
}

/** A certificate without its values: what is left must be the same in a real one and in a simulated one. */
function outline(der: Uint8Array): Outline {
  const certificate = forge.asn1.fromDer(Buffer.from(der).toString('latin1'))
  const [body] = members(certificate)
  const extensions = members(members(members(body).at(-1))[0]).map((extension) => {
    const [oid, ...rest] = members(extension)
    const value = Buffer.from(String(rest.at(-1)?.value), 'latin1')
    return { oid: forge.asn1.derToOid(String(oid?.value)), critical: rest.length > 1, value }
  })
  const inner = extensions.map(({ oid, critical, value }) => {
    return [oid, critical, nodeShape(forge.asn1.fromDer(value.toString('latin1')))]
  })
  return { shape: [members(body).slice(0, -1).map(nodeShape), inner, nodeShape(members(certificate)[1])], extensions }
}

/** Tags and object identifiers, with times of either kind alike: real intermediates use GeneralizedTime before 2050. */
function nodeShape(node: forge.asn1.Asn1 | undefined): unknown {
  if (node === undefined) return undefined
  const { UTCTIME, GENERALIZEDTIME, OID } = forge.asn1.Type
  if (node.tagClass === forge.asn1.Class.UNIVERSAL) {
    if (node.type === UTCTIME || node.type === GENERALIZEDTIME) return 'time'
    if (node.type === OID) return forge.asn1.derToOid(String(node.value))
    if (node.type === forge.asn1.Type.BITSTRING) return 'bits'
  }
  const name = `${node.tagClass}/${node.type}`
  return node.constructed ? [name, ...members(node).map(nodeShape)] : name
}

function members(node: forge.asn1.Asn1 | undefined): forge.asn1.Asn1[] {
  return Array.isArray(node?.value) ? (node.value as forge.asn1.Asn1[]) : []
}

/** BasicOCSPResponse inside an OCSPResponse. */
function basicResponse(der: Uint8Array): forge.asn1.Asn1 {
  const response = forge.asn1.fromDer(Buffer.from(der).toString('latin1'))
  const [, tagged] = members(response)
  const [, content] = members(members(tagged)[0])
  return forge.asn1.fromDer(String(content?.value))
}
