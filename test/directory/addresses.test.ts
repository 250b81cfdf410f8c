/** Where a stranger's list may send this machine (P-15.9): neither by what a URL says, nor by what a name leads to, nor by a redirect. */
import type { lookup } from 'node:dns'
import { createServer, type Server } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { isPublicAddress, privateEndpoint } from '../../client/directory/addresses.js'
import { connect as connectInBrowser } from '../../client/directory/index.js'
import { connect } from '../../client/directory/node.js'
import { publicLookup, publicReach } from '../../client/directory/public-reach.js'
import { startHttp } from '../support/http.js'
import { createProvider, ENDPOINT } from './providers.js'

let server: Server
let port: number
let connections = 0
beforeAll(async () => {
  server = createServer((socket) => {
    connections++
    socket.destroy()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  port = typeof address === 'object' ? (address?.port ?? 0) : 0
})
afterAll(() => new Promise((resolve) => server.close(resolve)))

const intent = { model: ENDPOINT.model.id }
async function listing(...urls: string[]) {
  const provider = await createProvider(new Date())
  const endpoints = urls.map((url) => ({ ...ENDPOINT, url }))
  return { schema: 'subrosa-directory/1' as const, descriptors: [await provider.descriptor({ endpoints })] }
}

describe('addresses', () => {
  it.each([
    ...['127.0.0.1', '127.9.9.9', '0.0.0.0', '10.1.2.3', '172.16.0.1', '192.168.1.1', '169.254.169.254', '100.64.0.1'],
    ...['192.0.2.1', '198.18.0.1', '198.51.100.1', '203.0.113.1', '224.0.0.1', '240.0.0.1', '255.255.255.255'],
    ...['::', '::1', '::ffff:127.0.0.1', '::ffff:10.0.0.1', '::7f00:1', '64:ff9b::7f00:1', '2002:7f00:1::', '2001::1'],
    // What clouds keep for their machines, by the numbers and in disguise.
    ...['168.63.129.16', '::ffff:168.63.129.16', '::ffff:a83f:8110', '64:ff9b::a83f:8110', '64:ff9b:1::a83f:8110'],
    ...[
      '2002:a83f:8110::',
      '::a83f:8110',
      '::168.63.129.16',
      '168.63.33040',
      '0xa83f8110',
      '161.26.0.10',
      '166.11.255.1',
    ],
    ...['100.100.100.200', '::ffff:100.100.100.200', '64:ff9b::6464:64c8', '192.0.0.192', '::ffff:192.0.0.192'],
    ...[
      '::ffff:169.254.169.254',
      '64:ff9b::a9fe:a9fe',
      'fd20:ce::254',
      'fd00:c1::a9fe:a9fe',
      '169.254.0.23',
      '169.254.170.2',
    ],
    ...['192.31.196.1', '192.52.193.1', '192.88.99.1', '3fff::1', '2001:20::1', '2001:2::1', '5f00::1', '100::1'],
    ...['fe80::1', 'fc00::1', 'fd00:ec2::254', 'fec0::1', 'ff02::1', '2001:db8::1', 'nonsense', ''],
  ])('%s is not public', (address) => expect(isPublicAddress(address)).toBe(false))

  it.each([
    ...['8.8.8.8', '1.1.1.1', '2606:4700:4700::1111', '::ffff:8.8.8.8'],
    ...['168.63.129.15', '168.63.129.17', '161.25.255.255', '161.27.0.0', '166.7.255.255', '166.12.0.0'],
  ])('%s is public', (address) => {
    expect(isPublicAddress(address)).toBe(true)
  })
})

describe('a listed URL', () => {
  it.each([
    ...['http://gpu7.example.net/', 'https://127.0.0.1/', 'https://[::1]/', 'https://169.254.169.254/latest/'],
    ...['https://168.63.129.16/machine', 'https://2822734096/', 'https://[::ffff:a83f:8110]/'],
    ...[
      'https://2130706433/',
      'https://0x7f.1/',
      'https://[::ffff:7f00:1]/',
      'https://localhost/',
      'https://a.localhost/',
    ],
    ...[
      'https://localhost./',
      'https://printer.local/',
      'https://metadata.google.internal/',
      'https://router/',
      'https://router./',
    ],
  ])('%s is not connected to', (url) => expect(privateEndpoint(new URL(url))).toEqual(expect.any(String)))

  it.each(['https://gpu7.example.net/', 'https://8.8.8.8:8443/', 'https://localhost.example.net/'])(
    '%s may be',
    (url) => {
      expect(privateEndpoint(new URL(url))).toBeUndefined()
    },
  )

  it.each([
    ['in Node', connect],
    ['in a browser', connectInBrowser],
  ])('of this machine is left alone, %s', async (_, through) => {
    const urls = [`http://127.0.0.1:${port}/`, `https://127.0.0.1:${port}/`, `https://localhost:${port}/`]
    const error = await through(await listing(...urls), { intent }).catch((reason: unknown) => reason)
    expect(error).toMatchObject({
      code: 'pool.no-worker',
      failures: [],
      message: expect.stringMatching(/3 listed do not fit/),
    })
    expect(connections).toBe(0)
  })
})

/** A resolver that answers so, each time the next. */
function resolver(...answers: readonly (readonly string[])[]) {
  let asked = 0
  const resolve = ((_name: string, _options: object, callback: (error: null, all: object[]) => void) => {
    const addresses = answers[Math.min(asked++, answers.length - 1)] ?? []
    callback(
      null,
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    )
  }) as unknown as typeof lookup
  return { resolve, asked: () => asked }
}

describe('a name', () => {
  it.each([
    ['this machine', ['127.0.0.1']],
    ['the cloud’s metadata', ['169.254.169.254']],
    ['a public address and a private one', ['8.8.8.8', '127.0.0.1']],
    ['an IPv4 address in disguise', ['::ffff:127.0.0.1']],
    ['nothing', []],
  ])('that leads to %s is not connected to', async (_, addresses) => {
    const { resolve, asked } = resolver(addresses)
    const endpoint = new URL(`https://gpu7.example.net:${port}/`)
    const lines = (await publicReach(resolve))(endpoint)
    const { signal } = new AbortController()
    const error = await lines.fetch(endpoint).catch((reason: unknown) => reason)
    const sealed = await lines
      .take(false)
      .post(endpoint, {}, new Uint8Array(1), signal)
      .catch((reason: unknown) => reason)
    for (const one of [error, sealed]) {
      expect(one).toMatchObject({ cause: { message: expect.stringMatching(/not a public one/) } })
    }
    expect([asked(), connections]).toEqual([2, 0])
  })

  it('that was public a moment ago is looked at again for every connection', () => {
    const { resolve } = resolver(['8.8.8.8'], ['127.0.0.1'])
    const look = publicLookup(resolve)
    const seen: unknown[] = []
    for (const all of [false, false])
      look('gpu7.example.net', { all }, (error, address) => seen.push(error?.message ?? address))
    look('gpu7.example.net', { all: true }, (error) => seen.push(error?.message))
    expect(seen).toEqual(['8.8.8.8', ...Array(2).fill(expect.stringMatching(/not a public one/))])
  })

  it('that leads to public addresses is handed on as it is', () => {
    const { resolve } = resolver(['8.8.8.8', '2606:4700::1'])
    const seen: unknown[] = []
    publicLookup(resolve)('gpu7.example.net', { all: true }, (error, all) => seen.push(error, all))
    expect(seen).toEqual([
      null,
      [
        { address: '8.8.8.8', family: 4 },
        { address: '2606:4700::1', family: 6 },
      ],
    ])
  })

  it('or address that is private is refused before anything is looked up', async () => {
    const { resolve, asked } = resolver(['8.8.8.8'])
    const reach = await publicReach(resolve)
    const { signal } = new AbortController()
    for (const url of [`http://127.0.0.1:${port}/`, `https://localhost:${port}/`, `https://10.0.0.1:${port}/`].map(
      (text) => new URL(text),
    )) {
      await expect(reach(url).fetch(url)).rejects.toThrow()
      await expect(reach(url).take(false).post(url, {}, new Uint8Array(1), signal)).rejects.toThrow()
    }
    const listed = new URL('https://gpu7.example.net/')
    await expect(reach(listed).fetch(new Request(listed))).rejects.toThrow(/expected a URL/)
    expect([asked(), connections]).toEqual([0, 0])
  })
})

it('a redirect is not followed, even where private addresses are allowed', async () => {
  const moved = await startHttp((_, response) =>
    response.writeHead(302, { location: `http://127.0.0.1:${port}/` }).end(),
  )
  const options = { intent, allowPrivateEndpoints: true }
  const error = await connect(await listing(`${moved.url}/`), options).catch((reason: unknown) => reason)
  expect(error).toMatchObject({ failures: [{ error: { message: expect.stringMatching(/redirect/) } }] })
  expect(connections).toBe(0)
  await moved.close()
})
