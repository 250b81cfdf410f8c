/** Rules of a chain that no simulated authority breaks by itself: depth, and roles. */
import { describe, expect, it } from 'vitest'
import { judgeAuthority, judgeShape } from '../../verifier/gpu/chain.js'
import { type Certificate, parseCertificate } from '../../verifier/x509.js'
import { NVIDIA } from './world.js'

const chain = NVIDIA.issueDevice({ family: 'GH100' }).chain.map((der) => parseCertificate(new Uint8Array(der)))
const change = (index: number, members: Partial<Certificate>): Certificate[] =>
  chain.map((certificate, i) => (i === index ? { ...certificate, ...members } : certificate))

describe('shape', () => {
  it('is not that of a chain with one certificate twice', () => {
    const root = parseCertificate(NVIDIA.deviceRoot.der)
    expect(judgeShape([root, root], 2)).toMatchObject({ status: 'fail', reason: expect.stringContaining('twice') })
  })
})

describe('authority', () => {
  it('is in order as issued', () => {
    expect(judgeAuthority(chain).status).toBe('pass')
    expect(judgeShape(chain, 5).status).toBe('pass')
  })

  it.each([1, 2, 3, 4])('certificate %i may stand as high as its path length allows and no higher', (index) => {
    // Between it and the leaf there are index - 1 authorities.
    expect(judgeAuthority(change(index, { pathLength: index - 1 })).status).toBe('pass')
    if (index > 1) expect(judgeAuthority(change(index, { pathLength: index - 2 })).status).toBe('fail')
  })

  it.each([1, 2, 3, 4])('certificate %i must be an authority that signs certificates', (index) => {
    expect(judgeAuthority(change(index, { isCa: false })).status).toBe('fail')
    expect(judgeAuthority(change(index, { keyUsage: undefined })).status).toBe('fail')
    expect(judgeAuthority(change(index, { keyUsage: { certSign: false, crlSign: true } })).status).toBe('fail')
  })

  it('of the leaf is none', () => {
    expect(judgeAuthority(change(0, { isCa: true })).status).toBe('fail')
    expect(judgeAuthority(change(0, { keyUsage: { certSign: true, crlSign: false } })).status).toBe('fail')
    expect(judgeAuthority([]).status).toBe('fail')
  })
})
