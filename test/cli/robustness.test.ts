/**
 * Hostile files and hostile servers, over real sockets: a clear sentence, the right exit status, and neither more memory
 * nor more time than the limits allow.
 */
import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { RequestListener, ServerResponse } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createGzip, gzipSync } from 'node:zlib'
import forge from 'node-forge'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fetchBundle } from '../../verifier/fetch-evidence.js'
import { MEDIA_TYPE_BUNDLE } from '../../verifier/protocol/constants.js'
import { verifyAttestation } from '../support/command.js'
import { startHttp } from '../support/http.js'
import { filled } from '../support/samples.js'

const MIB = 1024 * 1024
let folder: string
const file = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-robust-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** Start of a bundle's map: its first member, and then whatever a test writes. */
function bundleStart(members: number): Buffer {
  const text = (value: string) => Buffer.concat([Buffer.from([0x78, value.length]), Buffer.from(value)])
  return Buffer.concat([
    Buffer.from([0xa0 + members]),
    Buffer.concat([Buffer.from([0x60 + 8]), Buffer.from('__cmwc_t')]),
    text('tag:subrosa,2026:bundle/1'),
  ])
}

/** Peak growth of this process while something runs, in bytes. */
async function growth(run: () => Promise<unknown>): Promise<number> {
  const before = process.memoryUsage().rss
  let peak = before
  const timer = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage().rss)
  }, 5)
  await run()
  clearInterval(timer)
  return Math.max(peak, process.memoryUsage().rss) - before
}

describe('files', () => {
  it('a bundle of 64 MiB is malformed, and only as much is read as any reader takes', async () => {
    const descriptor = openSync(file('huge.bundle'), 'w')
    writeSync(descriptor, bundleStart(2))
    ftruncateSync(descriptor, 64 * MIB)
    closeSync(descriptor)
    const began = Date.now()
    const { status, stdout } = await verifyAttestation(file('huge.bundle'), '--offline')
    expect(stdout).toMatch(/^MALFORMED/)
    expect(stdout).toContain('x bundle.parse')
    expect(stdout).toContain('16777216')
    expect(status).toBe(3)
    expect(Date.now() - began).toBeLessThan(10_000)
  })

  it.each<[string, Buffer]>([
    ['arrays 100,000 deep', Buffer.alloc(100_000, 0x81)],
    ['maps 100,000 deep', Buffer.alloc(100_000, 0xa1)],
    ['tags 100,000 deep', Buffer.alloc(100_000, 0xc1)],
    ['a list of four thousand million', Buffer.from([0x9a, 0xff, 0xff, 0xff, 0xff])],
    ['a string of 2^63 bytes', Buffer.from([0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
    ['an endless list', Buffer.from([0x9f])],
  ])('a bundle with %s is malformed', async (_, value) => {
    await writeFile(file('deep.bundle'), Buffer.concat([bundleStart(2), Buffer.from([0x61, 0x61]), value]))
    const { status, stdout } = await verifyAttestation(file('deep.bundle'), '--offline')
    expect(stdout).toMatch(/^MALFORMED/)
    expect(status).toBe(3)
  })

  it('a bundle with a key twice is malformed', async () => {
    const twice = Buffer.concat([bundleStart(3), Buffer.from([0x61, 0x61, 1, 0x61, 0x61, 2])])
    await writeFile(file('twice.bundle'), twice)
    const { status, stdout } = await verifyAttestation(file('twice.bundle'), '--offline')
    expect(stdout).toContain('x bundle.parse')
    expect(status).toBe(3)
  })

  it('a policy full of aliases is refused, not unfolded', async () => {
    const levels = Array.from({ length: 20 }, (_, i) => `a${i + 1}: &a${i + 1} [*a${i}, *a${i}, *a${i}]`)
    await writeFile(file('laughs.yaml'), ['a0: &a0 x', ...levels].join('\n'))
    const { status, stdout, stderr } = await verifyAttestation('x', '--policy', file('laughs.yaml'))
    expect(stdout).toBe('')
    expect(stderr).toMatch(/alias/i)
    expect(status).toBe(2)
  })
})

/** One command against one server. */
async function against(listener: RequestListener, ...more: string[]) {
  const server = await startHttp(listener)
  try {
    return { url: server.url, ...(await verifyAttestation(server.url, '--offline', ...more)) }
  } finally {
    await server.close()
  }
}
const bundleHeaders = { 'content-type': MEDIA_TYPE_BUNDLE }

/** Writes pieces until the reader goes away. */
function pour(
  response: { write(piece: Buffer): boolean; once(event: string, next: () => void): unknown },
  piece: Buffer,
) {
  const more = () => {
    while (response.write(piece)) {
      if ((response as unknown as ServerResponse).destroyed) return
    }
    response.once('drain', more)
  }
  more()
}

describe('workers', () => {
  it('that send 64 MiB are cut off at the limit', async () => {
    let sent = 0
    const { status, stdout, stderr } = await against((_, response) => {
      response.writeHead(200, bundleHeaders)
      response.on('error', () => undefined)
      const piece = Buffer.alloc(MIB)
      const more = () => {
        if (sent >= 64 * MIB || response.destroyed) return
        sent += MIB
        response.write(piece, () => setImmediate(more))
      }
      more()
    })
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^verify-attestation: http:\/\/127\.0\.0\.1:\d+ sent more than 16777216 bytes\n$/)
    expect(sent).toBeLessThan(40 * MIB)
    expect(status).toBe(4)
  })

  it('that send a gzip bomb are cut off at the limit, unpacked', async () => {
    let outcome: Awaited<ReturnType<typeof against>> | undefined
    const grown = await growth(async () => {
      outcome = await against((_, response) => {
        response.writeHead(200, { ...bundleHeaders, 'content-encoding': 'gzip' })
        const gzip = createGzip({ level: 1 })
        gzip.on('error', () => undefined)
        response.on('error', () => undefined)
        response.on('close', () => gzip.destroy())
        gzip.pipe(response)
        pour(gzip, Buffer.alloc(MIB))
      })
    })
    expect(outcome).toMatchObject({ status: 4, stdout: '' })
    expect(outcome?.stderr).toContain('sent more than 16777216 bytes')
    expect(grown).toBeLessThan(300 * MIB)
  })

  it('that send a bomb in one small piece are cut off as well', async () => {
    const bomb = gzipSync(Buffer.alloc(64 * MIB))
    expect(bomb.length).toBeLessThan(MIB)
    const { status, stderr } = await against((_, response) => {
      response.writeHead(200, { ...bundleHeaders, 'content-encoding': 'gzip', 'content-length': bomb.length }).end(bomb)
    })
    expect(stderr).toContain('sent more than 16777216 bytes')
    expect(status).toBe(4)
  })

  it.each<[string, RequestListener, RegExp, number]>([
    [
      'redirect to another origin',
      (_, r) => r.writeHead(302, { location: 'http://127.0.0.1:1/' }).end(),
      /redirect/,
      4,
    ],
    [
      'redirect to themselves',
      (q, r) => r.writeHead(307, { location: q.url ?? '/' }).end(),
      /answered with a redirect/,
      4,
    ],
    ['answer 500', (_, r) => r.writeHead(500).end('no'), /answered 500/, 4],
    [
      'answer with a web page',
      (_, r) => r.writeHead(200, { 'content-type': 'text/html' }).end('<p>'),
      /not a worker/,
      4,
    ],
    ['hang up', (_, r) => r.destroy(), /cannot reach/, 4],
    [
      'hang up half way',
      (_, r) => r.writeHead(200, { ...bundleHeaders, 'content-length': 100 }).write('x', () => r.destroy()),
      /cannot reach/,
      4,
    ],
    [
      'claim gzip and send none',
      (_, r) => r.writeHead(200, { ...bundleHeaders, 'content-encoding': 'gzip' }).end('plain'),
      /cannot reach/,
      4,
    ],
  ])('that %s', async (_, listener, message, code) => {
    const { status, stdout, stderr } = await against(listener)
    expect(stdout).toBe('')
    expect(stderr).toMatch(message)
    expect(stderr.trimEnd().split('\n')).toHaveLength(1)
    expect(status).toBe(code)
  })

  it('that answer with nothing, or with noise, are malformed', async () => {
    for (const body of [Buffer.alloc(0), Buffer.alloc(1000, 7)]) {
      const { status, stdout } = await against((_, response) => response.writeHead(200, bundleHeaders).end(body))
      expect(stdout).toMatch(/^MALFORMED/)
      expect(status).toBe(3)
    }
  })

  const trickle: RequestListener = (_, response) => {
    response.writeHead(200, bundleHeaders)
    const timer = setInterval(() => response.write('x'), 1000)
    response.on('close', () => clearInterval(timer))
  }

  it('that answer one byte a second are given up when the time is over', async () => {
    const server = await startHttp(trickle)
    const began = Date.now()
    const asking = fetchBundle(new URL(server.url), filled(1), { fetch, timeoutMs: 2500 })
    await expect(asking).rejects.toThrow(/no complete answer within 2\.5 s/)
    expect(Date.now() - began).toBeLessThan(6000)
    await server.close()
  })

  it('that answer one byte a second keep nobody longer than 30 s', async () => {
    const { status, stdout, stderr } = await against(trickle)
    expect(stdout).toBe('')
    expect(stderr).toContain('no complete answer within 30 s')
    expect(status).toBe(4)
  })
})

describe('TLS', () => {
  it('a certificate nobody vouches for is an error, and nothing is asked', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', {
      modulusLength: 2048,
      publicKeyEncoding: { type: 'spki', format: 'pem' },
      privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    })
    const certificate = forge.pki.createCertificate()
    certificate.publicKey = forge.pki.publicKeyFromPem(publicKey)
    certificate.validity.notBefore = new Date(Date.now() - 60_000)
    certificate.validity.notAfter = new Date(Date.now() + 3600_000)
    certificate.setSubject([{ name: 'commonName', value: '127.0.0.1' }])
    certificate.setIssuer([{ name: 'commonName', value: '127.0.0.1' }])
    certificate.sign(forge.pki.privateKeyFromPem(privateKey), forge.md.sha256.create())
    let asked = 0
    const server = createHttpsServer({ key: privateKey, cert: forge.pki.certificateToPem(certificate) }, () => {
      asked++
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
    const { status, stdout, stderr } = await verifyAttestation(url)
    server.close()
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^verify-attestation: cannot reach https:\/\/127\.0\.0\.1:\d+: .*(self-signed|altname|IP)/)
    expect(asked).toBe(0)
    expect(status).toBe(4)
  })

  it('a server that speaks no TLS is an error', async () => {
    const server = await startHttp((_, response) => response.end())
    const { status, stdout, stderr } = await verifyAttestation(server.url.replace('http:', 'https:'))
    await server.close()
    expect(stdout).toBe('')
    expect(stderr).toMatch(/^verify-attestation: cannot reach https:/)
    expect(status).toBe(4)
  })
})
