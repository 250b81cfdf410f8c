/**
 * An OCSP responder that is the openssl command, behind a real socket: keys, delegated certificates and responses are
 * OpenSSL's own, so that what the verifier asks and what it reads is held against another implementation. It signs for the
 * machine's clock only.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { IssuedCertificate, NvidiaHierarchy } from '../../scripts/simulated/nvidia.js'
import type { NvidiaAuthority } from '../../scripts/simulated/nvidia-authorities.js'
import { startHttp } from '../support/http.js'

export const hasOpenssl: boolean = spawnSync('openssl', ['version']).status === 0

export type IndexState = 'good' | 'revoked' | 'hold' | 'absent'

export interface OpensslResponder {
  readonly url: string
  /** Requests that came, in DER. */
  readonly requests: readonly Buffer[]
  /** What the responder's index says of a certificate from now on; without a word everything is good. */
  set(certificate: Pick<IssuedCertificate, 'serialNumber'>, state: IndexState): void
  close(): Promise<void>
}

interface Desk {
  readonly folder: string
  /** SHA-256 of the issuer's public key bits, as a CertID has it. */
  readonly keyHash: Buffer
}

export async function startOpensslResponder(
  nvidia: NvidiaHierarchy,
  certificates: readonly IssuedCertificate[],
): Promise<OpensslResponder> {
  const root = mkdtempSync(join(tmpdir(), 'subrosa-ocsp-'))
  const issuers = new Set(certificates.flatMap(({ issuer }) => issuer ?? []))
  const desks = [...issuers].map((issuer) => openDesk(join(root, issuer), issuer, nvidia))
  const states = new Map<bigint, IndexState>()
  const requests: Buffer[] = []
  const server = await startHttp((request, response) => {
    const parts: Buffer[] = []
    request.on('data', (part: Buffer) => parts.push(part))
    request.on('end', () => {
      const question = Buffer.concat(parts)
      requests.push(question)
      const desk = desks.find(({ keyHash }) => question.includes(keyHash))
      if (request.method !== 'POST' || desk === undefined) return void response.writeHead(400).end()
      writeFileSync(join(desk.folder, 'index.txt'), indexOf(certificates, states))
      const answer = ask(desk, question)
      response.writeHead(200, { 'content-type': 'application/ocsp-response' }).end(answer)
    })
  })
  return {
    url: server.url,
    requests,
    set: ({ serialNumber }, state) => void states.set(serialNumber, state),
    async close() {
      await server.close()
      rmSync(root, { recursive: true, force: true })
    },
  }
}

/** A delegated responder under this issuer, certified by openssl. */
function openDesk(folder: string, issuer: NvidiaAuthority, nvidia: NvidiaHierarchy): Desk {
  mkdirSync(folder)
  const authority = nvidia.authorities[issuer]
  const file = (name: string) => join(folder, name)
  writeFileSync(file('ca.pem'), authority.pem)
  writeFileSync(file('ca.key'), authority.privateKey.export({ type: 'pkcs8', format: 'pem' }))
  writeFileSync(file('responder.cnf'), 'keyUsage=critical,digitalSignature\nextendedKeyUsage=OCSPSigning\n')
  openssl('ecparam', '-name', 'secp384r1', '-genkey', '-noout', '-out', file('responder.key'))
  openssl(
    'req',
    '-new',
    '-key',
    file('responder.key'),
    '-subj',
    `/CN=Responder of ${issuer}`,
    '-out',
    file('responder.csr'),
  )
  openssl(
    ...['x509', '-req', '-in', file('responder.csr'), '-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-sha384'],
    ...['-set_serial', '77', '-days', '1', '-extfile', file('responder.cnf'), '-out', file('responder.pem')],
  )
  return { folder, keyHash: createHash('sha256').update(pointOf(authority)).digest() }
}

function ask({ folder }: Desk, question: Buffer): Buffer {
  const file = (name: string) => join(folder, name)
  writeFileSync(file('question.der'), question)
  openssl(
    ...['ocsp', '-index', file('index.txt'), '-CA', file('ca.pem'), '-rsigner', file('responder.pem')],
    ...['-rkey', file('responder.key'), '-rmd', 'sha384', '-ndays', '1'],
    ...['-reqin', file('question.der'), '-respout', file('answer.der')],
  )
  return readFileSync(file('answer.der'))
}

/** The text database of `openssl ca`. */
function indexOf(certificates: readonly IssuedCertificate[], states: ReadonlyMap<bigint, IndexState>): string {
  const lines = [...new Set(certificates.map(({ serialNumber }) => serialNumber))].flatMap((serialNumber) => {
    const state = states.get(serialNumber) ?? 'good'
    const hex = serialNumber.toString(16).toUpperCase()
    const serial = hex.length % 2 === 0 ? hex : `0${hex}`
    const reason = state === 'hold' ? 'certificateHold' : 'keyCompromise'
    if (state === 'absent') return []
    const revoked = state === 'good' ? ['V', '491231235959Z', ''] : ['R', '491231235959Z', `260101000000Z,${reason}`]
    return [[...revoked, serial, 'unknown', `/CN=${serial}`].join('\t')]
  })
  return `${lines.join('\n')}\n`
}

function pointOf({ publicKey }: IssuedCertificate): Buffer {
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' })
  return Buffer.concat([Buffer.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')])
}

function openssl(...argv: string[]): void {
  const { status, stderr } = spawnSync('openssl', argv)
  if (status !== 0) throw new Error(`openssl ${argv[0]}: ${String(stderr)}`)
}
