/** `subrosa directory` as providers and list keepers type it, with real files and real servers. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { PATH_DESCRIPTOR } from '../../verifier/directory/descriptor.js'
import { parseDirectory } from '../../verifier/directory/document.js'
import { verifyDescriptors } from '../../verifier/directory/verify.js'
import { utf8 } from '../../verifier/protocol/bytes.js'
import { createProvider, DAY, ENDPOINT, type Provider } from '../directory/providers.js'
import { subrosa } from '../support/command.js'
import { startHttp } from '../support/http.js'

let folder: string
let server: Server
let origin: string
/** Where nothing listens. */
let closed: string
let provider: Provider
/** What the server answers, by path. */
const pages = new Map<string, { readonly type: string; readonly text: string; readonly status?: number }>()
const file = (name: string) => join(folder, name)
const descriptorType = 'application/vnd.subrosa.descriptor+jwt'
const directoryType = 'application/vnd.subrosa.directory+json'

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-directory-'))
  provider = await createProvider(new Date())
  server = createServer(({ url = '' }, response) => {
    const { status = 200, type, text } = pages.get(url) ?? { status: 404, type: 'text/plain', text: '' }
    response.writeHead(status, { 'content-type': type, location: '/elsewhere' }).end(text)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const gone = await startHttp(() => undefined)
  closed = `${gone.url}/`
  await gone.close()
  await writeFile(file('source.yaml'), `name: Example\nendpoints:\n  - ${JSON.stringify(ENDPOINT)}\n`)
  expect((await subrosa('directory', 'key', '--out', file('provider.pem'))).status).toBe(0)
})

afterAll(async () => {
  server.close()
  await rm(folder, { recursive: true, force: true })
})

const sign = (...flags: string[]) =>
  subrosa('directory', 'descriptor', file('source.yaml'), '--key', file('provider.pem'), ...flags)

describe('a provider', () => {
  it('makes a key that only its owner can read, and that is never printed', async () => {
    const { status, stdout, stderr } = await subrosa('directory', 'key', '--out', file('new.pem'))
    expect([status, stderr]).toEqual([0, ''])
    expect(stdout).toMatch(/^[\w-]{43}\n$/)
    expect((await stat(file('new.pem'))).mode & 0o777).toBe(0o600)
    const before = await readFile(file('new.pem'))
    const again = await subrosa('directory', 'key', '--out', file('new.pem'))
    expect(again).toMatchObject({ status: 2, stdout: '' })
    expect(again.stderr).toMatch(/there already/)
    expect(await readFile(file('new.pem'))).toEqual(before)
  })

  it('signs what it says, for a while', async () => {
    const { status, stdout } = await sign('--days', '3', '--sequence', '5')
    expect(status).toBe(0)
    const [result] = await verifyDescriptors([stdout.trim()], new Date())
    const key = createKeyText()
    expect(result).toMatchObject({ verdict: 'accepted', payload: { name: 'Example', seq: 5, endpoints: [ENDPOINT] } })
    expect((result?.payload?.exp ?? 0) - (result?.payload?.iat ?? 0)).toBe(3 * DAY)
    for (const line of (await key).split('\n').slice(1, 2)) expect(stdout).not.toContain(line)
    const later = await verifyDescriptors([(await sign()).stdout.trim()], new Date())
    expect(later[0]?.payload?.seq).toBeGreaterThan(1_700_000_000)
  })

  const createKeyText = () => readFile(file('provider.pem'), 'utf8')

  it.skipIf(process.platform === 'win32')('is told when others may read its key (skipped on Windows)', async () => {
    await writeFile(file('open.pem'), await createKeyText())
    await chmod(file('open.pem'), 0o644)
    const { status, stdout, stderr } = await subrosa(
      ...['directory', 'descriptor', file('source.yaml'), '--key', file('open.pem')],
    )
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(/others may read .*chmod 600/)
  })

  it.each<[string, string, RegExp]>([
    ['an unknown member', 'endpoints: []\ntrusted: true', /endpoints|trusted/],
    ['no endpoints', 'name: x', /endpoints/],
    ['a key written twice', 'name: x\nname: y', /keys must be unique/],
    [
      'a URL of another kind',
      `endpoints: [${JSON.stringify({ ...ENDPOINT, url: 'ftp://x/' })}]`,
      /endpoints\.0\.url: expected a worker URL/,
    ],
  ])('is told of %s in its source', async (_, text, message) => {
    await writeFile(file('bad.yaml'), text)
    const argv = ['directory', 'descriptor', file('bad.yaml'), '--key', file('provider.pem')]
    const { status, stdout, stderr } = await subrosa(...argv)
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr).toMatch(message)
  })

  it('is told of a key that is none, which is not quoted', async () => {
    await writeFile(file('none.pem'), 'hunter2', { mode: 0o600 })
    const argv = ['directory', 'descriptor', file('source.yaml'), '--key', file('none.pem')]
    const { status, stderr } = await subrosa(...argv)
    expect(status).toBe(2)
    expect(stderr).toMatch(/expected an Ed25519 private key/)
    expect(stderr).not.toContain('hunter2')
  })
})

describe('whoever keeps a list', () => {
  it('gathers files, providers’ origins and other lists, and says why something is left out', async () => {
    const [kept, old, newest] = [
      await provider.descriptor(),
      await (await createProvider(new Date(3_600_000))).descriptor(),
      (await sign()).stdout.trim(),
    ]
    const tampered = await provider.sign({ ...provider.payload(), provider: (await createProvider(new Date())).key })
    pages.set(PATH_DESCRIPTOR, { type: descriptorType, text: `${kept}\n` })
    const schema = 'subrosa-directory/1'
    pages.set('/list', { type: directoryType, text: JSON.stringify({ schema, descriptors: [old, tampered, kept] }) })
    pages.set('/html', { type: 'text/html', text: '<html>' })
    pages.set('/moved', { type: directoryType, text: '', status: 302 })
    await writeFile(file('mine.jwt'), `${newest}\n`)
    await writeFile(file('none.jwt'), 'nothing')
    const from = [
      origin,
      `${origin}/list`,
      `${origin}/html`,
      `${origin}/moved`,
      closed,
      file('mine.jwt'),
      file('none.jwt'),
    ]
    const { status, stdout, stderr } = await subrosa('directory', ...from)
    expect(status).toBe(0)
    expect(parseDirectory(utf8(stdout)).descriptors).toEqual([kept, newest])
    expect(stderr).toMatch(/^2 descriptors kept, 2 endpoints; 6 left out\n/)
    for (const line of [
      /list of \S+: it expired at 1970-01-08\S+ \(descriptor\.window\)/,
      /list of \S+: the signature is not by the provider key it names \(descriptor\.signature\)/,
      /html is neither directory nor descriptor/,
      /moved?.*redirect/,
      /connection refused/,
      /none\.jwt: descriptor: expected a compact JWS \(descriptor\.parse\)/,
    ])
      expect(stderr).toMatch(line)
    expect(stderr).toMatch(/Being listed grants no trust/)
  })

  it.each<[string, () => Promise<string>, number]>([
    ['expired', async () => (await createProvider(new Date(3_600_000))).descriptor(), 1],
    ['no descriptor', async () => 'x.y.z', 3],
    ['a directory that is none', async () => '{}', 3],
  ])('gets no list of what is %s alone', async (_, make, code) => {
    await writeFile(file('alone'), await make())
    const { status, stdout, stderr } = await subrosa('directory', file('alone'), '--out', file('unwritten.json'))
    expect([status, stdout]).toEqual([code, ''])
    expect(stderr).toMatch(/^0 descriptors kept, 0 endpoints; 1 left out/)
    await expect(stat(file('unwritten.json'))).rejects.toThrow()
  })

  it('hears when nobody answers, and when nothing or nonsense was named', async () => {
    expect((await subrosa('directory', closed)).status).toBe(4)
    for (const argv of [[], [file('nowhere')], ['http://a:b@c/'], [origin, '--every', '1'], [origin, '--port', 'x']]) {
      const { status, stdout } = await subrosa('directory', ...argv)
      expect([argv, status, stdout]).toEqual([argv, 2, ''])
    }
  })

  it('serves the list, which is read like any other', async () => {
    pages.set(PATH_DESCRIPTOR, { type: descriptorType, text: await provider.descriptor() })
    const program = fileURLToPath(new URL('../../dist/client/cli.js', import.meta.url))
    const child = spawn(process.execPath, [program, 'directory', origin, '--port', '0', '--out', file('list.json')])
    let banner = ''
    for await (const piece of child.stdout) {
      banner += piece
      if (banner.includes('directory at')) break
    }
    const url = /http:\S+/.exec(banner)?.[0] ?? ''
    const response = await fetch(url)
    expect(response.headers.get('content-type')).toBe(directoryType)
    expect(await response.text()).toBe(await readFile(file('list.json'), 'utf8'))
    expect((await fetch(new URL('/', url))).status).toBe(404)
    expect((await fetch(url, { method: 'POST', body: '{}' })).status).toBe(405)
    const read = await subrosa('directory', url)
    expect(read.stderr).toMatch(/^1 descriptor kept, 1 endpoint; 0 left out/)
    child.kill('SIGTERM')
    expect(await once(child, 'close')).toEqual([0, null])
  })
})
