/** Certificates and CRLs to read: everything the simulated authorities issue, and whatever lies in captured evidence. */
import { createAmdHierarchy, sharedAmdKeys } from '../../scripts/simulated/amd.js'
import { createIntelHierarchy } from '../../scripts/simulated/intel.js'
import { createNvidiaHierarchy, type NvidiaAuthority } from '../../scripts/simulated/nvidia.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { parseCertificate, parseRevocationList } from '../../verifier/x509.js'
import { filesUnder } from '../snp/cases.js'
import { vectorsFolder } from '../support/vectors.js'

export interface Items {
  readonly certificates: readonly Uint8Array[]
  readonly lists: readonly Uint8Array[]
}

const TCB = { bl: 1, tee: 0, snp: 1, ucode: 1 }
const FAMILIES = ['GH100', 'GB100', 'LS10'] as const

/** One of everything the SIMULATED authorities of all vendors issue. */
export async function simulatedItems(): Promise<Items> {
  const amd = createAmdHierarchy({ product: 'Genoa', keys: await sharedAmdKeys('x509', 2048) })
  const intel = createIntelHierarchy()
  const nvidia = createNvidiaHierarchy()
  const revokedSerials = [1n, 0x20001n, 2n ** 150n]
  return {
    certificates: [
      amd.arkDer,
      amd.askDer,
      amd.asvkDer,
      amd.issueVcek({ tcb: TCB, hwid: new Uint8Array(64).fill(7) }).der,
      amd.issueVlek({ tcb: TCB, cspId: 'CN=cc-simulated.example' }).der,
      ...[intel.root, intel.platform, intel.processor, intel.tcbSigning].map(({ der }) => der),
      intel.issuePck().der,
      ...Object.values(nvidia.authorities).map(({ der }) => der),
      ...Object.keys(nvidia.authorities).map(
        (issuer) => nvidia.issueResponder({ issuer: issuer as NvidiaAuthority }).der,
      ),
      ...FAMILIES.flatMap((family) => [
        ...nvidia.issueDevice({ family }).chain.slice(0, 2),
        nvidia.issueRimSigner({ family }).der,
      ]),
    ],
    lists: [
      amd.crl(),
      amd.crl({ revokedSerials }),
      amd.crl({ number: null }),
      intel.rootCrl({ revokedSerials }),
      intel.pckCrl({ revokedSerials }),
      intel.pckCrl({ issuer: 'processor' }),
    ],
  }
}

/** Whatever parses in any file of the captured evidence, once each; nothing where there is none. */
export function capturedItems(): Items {
  const found = new Map<string, Uint8Array>()
  for (const { bytes } of vectorsFolder === undefined ? [] : filesUnder(vectorsFolder)) collect(bytes, found, 0)
  const items = [...found.values()]
  return {
    certificates: items.filter((der) => accepts(() => parseCertificate(der))),
    lists: items.filter((der) => accepts(() => parseRevocationList(der))),
  }
}

export function accepts(read: () => unknown): boolean {
  try {
    read()
    return true
  } catch (error) {
    if (error instanceof FormatError) return false
    throw error
  }
}

/** Everything that looks like a long DER SEQUENCE, in binary or in base64, hex or PEM inside one another. */
function collect(bytes: Uint8Array, found: Map<string, Uint8Array>, depth: number): void {
  for (let at = bytes.indexOf(0x30); at >= 0; at = bytes.indexOf(0x30, at + 1)) {
    const octets = (bytes[at + 1] ?? 0) - 0x80
    if (octets !== 2 && octets !== 3) continue
    const length = bytes.subarray(at + 2, at + 2 + octets).reduce((value, byte) => value * 256 + byte, 0)
    const der = bytes.slice(at, at + 2 + octets + length)
    if (der.length === 2 + octets + length) found.set(Buffer.from(der).toString('latin1'), der)
  }
  if (depth > 3) return
  const text = Buffer.from(bytes).toString('latin1')
  const unescaped = text
    .replaceAll(/%0A|\\n/gi, '\n')
    .replaceAll(/%2B/gi, '+')
    .replaceAll(/%2F/gi, '/')
    .replaceAll(/%3D/gi, '=')
  for (const [, body = ''] of unescaped.matchAll(/-----BEGIN [^-]+-----([A-Za-z0-9+/=\s]+)-----END/g)) {
    collect(Buffer.from(body, 'base64'), found, depth + 1)
  }
  for (const [run] of text.matchAll(/[0-9a-fA-F]{300,}/g)) collect(Buffer.from(run, 'hex'), found, depth + 1)
  for (const [run] of text.matchAll(/[A-Za-z0-9+/_-]{200,}/g)) collect(Buffer.from(run, 'base64'), found, depth + 1)
}
