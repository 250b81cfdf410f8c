/** What is sealed is what fetch would have sent, whichever way its content was read. */
import { describe, expect, it } from 'vitest'
import { readRequest } from '../../client/read-request.js'
import { FormatError } from '../../verifier/protocol/errors.js'

const URL_ = 'https://inner.example/v1/chat/completions?x=1'

const facts = (request: Request, content: ArrayBuffer | Uint8Array) => ({
  method: request.method,
  url: request.url,
  headers: [...request.headers],
  content: [...new Uint8Array(content)],
})

describe('a request that is read', () => {
  const json = { 'content-type': 'application/json' }
  it.each<[string, RequestInfo | URL, RequestInit | undefined]>([
    ['text with a type', URL_, { method: 'POST', headers: json, body: '{"a":"ü"}' }],
    ['text without a type', URL_, { method: 'POST', body: 'a' }],
    ['text with a lone surrogate', URL_, { method: 'POST', body: 'a\ud800b' }],
    ['no text at all', URL_, { method: 'POST', body: '' }],
    ['bytes', new URL(URL_), { method: 'POST', body: new Uint8Array([1, 2, 3]) }],
    ['bytes out of the middle', URL_, { method: 'POST', body: new Uint8Array([1, 2, 3]).subarray(1, 2) }],
    ['a form', URL_, { method: 'POST', body: new URLSearchParams({ a: 'b c' }) }],
    ['a blob', URL_, { method: 'POST', body: new Blob(['x'], { type: 'text/x' }) }],
    ['another method', URL_, { method: 'PUT', body: 'x' }],
    ['a method in other letters', URL_, { method: 'post', body: 'x' }],
    ['nothing', URL_, undefined],
    ['a Request', new Request(URL_, { method: 'POST', headers: json, body: '{}' }), undefined],
    ['a Request with other content', new Request(URL_, { method: 'POST', body: 'a' }), { method: 'POST', body: 'b' }],
    ['fields in a Headers', URL_, { method: 'POST', headers: new Headers([['x-a', 'b']]), body: 'x' }],
  ])('is what fetch would send: %s', async (_, input, init) => {
    const [mine, theirs] = input instanceof Request ? [input.clone(), input] : [input, input]
    const { request, content } = await readRequest(mine, init)
    const reference = new Request(theirs, init)
    expect(facts(request, content)).toEqual(facts(reference, await reference.arrayBuffer()))
  })

  it('keeps its content when its caller goes on with the bytes', async () => {
    const body = new Uint8Array([1, 2, 3])
    const { content } = await readRequest(URL_, { method: 'POST', body })
    body.fill(0)
    expect([...content]).toEqual([1, 2, 3])
  })

  it('ends with its signal', async () => {
    const leaving = new AbortController()
    const { request } = await readRequest(URL_, { method: 'POST', body: 'x', signal: leaving.signal })
    leaving.abort('left')
    expect(request.signal.reason).toBe('left')
  })

  it.each<[string, RequestInit]>([
    ['at hand', { method: 'POST', body: 'four' }],
    ['as a stream', { method: 'POST', body: new Blob(['four']) }],
  ])('is refused above the limit, %s', async (_, init) => {
    await expect(readRequest(URL_, init, 3)).rejects.toBeInstanceOf(FormatError)
    await expect(readRequest(URL_, { ...init, body: 'for' }, 3)).resolves.toBeDefined()
  })

  it('is refused where Request refuses it', async () => {
    await expect(readRequest(URL_, { method: 'GET', body: 'x' })).rejects.toBeInstanceOf(TypeError)
    await expect(readRequest('no address', { method: 'POST', body: 'x' })).rejects.toBeInstanceOf(TypeError)
  })
})
