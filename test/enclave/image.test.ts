/** The worker's answers where it may not serve, and its host configuration: the digest first, the bytes afterwards. */
import { describe, expect, it } from 'vitest'
import { connect } from '../../client/index.js'
import { configurationDigest, encodeHostConfiguration } from '../../enclave/config.js'
import { WorkerError } from '../../enclave/errors.js'
import { imageDigestOf } from '../../enclave/image.js'
import { openHostConfiguration } from '../../enclave/launch-configuration.js'
import { createRefusalApp } from '../../enclave/refusal-app.js'
import { serve } from '../../enclave/serve.js'
import { SIMULATED_LAUNCH_DIGEST } from '../../scripts/simulated/snp-platform.js'
import { fromHex, toBytes, toHex } from '../../verifier/protocol/bytes.js'

describe('a worker that refuses to serve', () => {
  const app = createRefusalApp(new WorkerError('worker.no-tee', 'no TEE here'))

  it('is alive, and says why it is not ready', async () => {
    expect((await app.request('/healthz')).status).toBe(200)
    const ready = await app.request('/readyz')
    expect(ready.status).toBe(503)
    expect(await ready.json()).toMatchObject({ code: 'worker.no-tee', detail: 'no TEE here' })
  })

  it.each([
    ['GET', '/.well-known/attestation?nonce=x'],
    ['GET', '/.well-known/ohttp-keys'],
    ['POST', '/ohttp'],
    ['POST', '/v1/chat/completions'],
    ['GET', '/anything'],
  ])('%s %s gets the reason and nothing else', async (method, path) => {
    const response = await app.request(path, { method, ...(method === 'POST' ? { body: 'a prompt' } : {}) })
    expect(response.status).toBe(503)
    expect(response.headers.get('connection')).toBe('close')
    expect(await response.text()).not.toContain('a prompt')
  })
})

describe('the image a worker was booted from (P-4.7)', () => {
  const hash = 'ab'.repeat(32)

  it('is the first root file system that the command line names, as for init', () => {
    for (const line of [
      `quiet subrosa.root=${hash},44256 subrosa.model=${'cd'.repeat(32)},951\n`,
      `initrd=initrd subrosa.root=${hash},1 subrosa.root=${'ef'.repeat(32)},1`,
    ]) {
      expect(toHex(imageDigestOf(line))).toBe(hash)
    }
  })

  it.each([
    ['nothing', ''],
    ['no root', 'quiet subrosa.model=x'],
    ['a hash that is too short', `subrosa.root=${hash.slice(2)},1`],
    ['capitals', `subrosa.root=${hash.toUpperCase()},1`],
    ['no length', `subrosa.root=${hash}`],
    ['more behind it', `subrosa.root=${hash},1,2`],
    ['another name', `xsubrosa.root=${hash},1`],
    ['a malformed one first', `subrosa.root=x subrosa.root=${hash},1`],
  ])('is refused when the command line has %s', (_, line) => {
    expect(() => imageDigestOf(line)).toThrow(expect.objectContaining({ code: 'worker.image' }))
  })

  it('is in the statement, for a policy to hold it to', async () => {
    const worker = await serve({ simulated: true, port: 0, imageDigest: fromHex(hash), writeLog: () => undefined })
    const policy = (digest: string) => ({
      schema: 'subrosa-policy/1' as const,
      trustAnchors: [worker.rootsPem ?? ''],
      allowNonVendorRoot: true,
      measurements: [{ digest: toHex(SIMULATED_LAUNCH_DIGEST) }],
      model: 'any' as const,
      image: { digests: [digest] },
    })
    try {
      const session = await connect(worker.url, { policy: policy(hash) })
      session.close()
      const other = connect(worker.url, { policy: policy('cd'.repeat(32)) })
      await expect(other).rejects.toMatchObject({
        result: {
          checks: expect.arrayContaining([expect.objectContaining({ id: 'image.digest', status: 'fail' })]),
        },
      })
    } finally {
      await worker.close()
    }
  })
})

describe('the configuration of a launch', () => {
  const bytes = encodeHostConfiguration({
    model: { id: 'demo', weightsRoot: toBytes(new Uint8Array(32).fill(7)) },
    padding: 'off',
    engine: 'stub 1',
    operatorKey: toBytes(new Uint8Array(32).fill(9)),
  })

  it.each(['snp', 'tdx'] as const)('is what its digest names on %s', (kind) => {
    const hostData = configurationDigest(kind, bytes)
    expect(openHostConfiguration(bytes, { kind, hostData })).toEqual({
      padding: 'off',
      operatorKey: new Uint8Array(32).fill(9),
    })
  })

  it('with another digest is refused before it is parsed', () => {
    const hostData = configurationDigest('snp', bytes)
    const notEvenCbor = toBytes(new Uint8Array(5000).fill(0xff))
    for (const other of [notEvenCbor, toBytes(bytes.slice(1)), toBytes(new Uint8Array())]) {
      expect(() => openHostConfiguration(other, { kind: 'snp', hostData })).toThrow(
        /was launched for the configuration/,
      )
    }
  })

  it('with the right digest and no sense is refused too', () => {
    const nonsense = toBytes(Uint8Array.of(0xff))
    const hostData = configurationDigest('snp', nonsense)
    expect(() => openHostConfiguration(nonsense, { kind: 'snp', hostData })).toThrow(/cannot be used/)
  })

  it('is held to what the simulated machine was launched with', async () => {
    const launched = { simulated: true, port: 0, configuration: bytes, writeLog: () => undefined }
    const other = toBytes(new Uint8Array(32).fill(1))
    await expect(serve({ ...launched, simulatedHostData: other })).rejects.toMatchObject({ code: 'worker.host-data' })
    // The digest fits, but it names another model and engine than the ones that run.
    const hostData = configurationDigest('snp', bytes)
    await expect(serve({ ...launched, simulatedHostData: hostData })).rejects.toMatchObject({
      code: 'worker.host-data',
    })
  })
})
