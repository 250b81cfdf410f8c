/** What a software TPM was told, read from its log; the log here is written as swtpm 0.7.1 writes it. */
import { describe, expect, it } from 'vitest'
import { extendedIn } from '../../scripts/image/tpm.js'

const u16 = (value: number) => Buffer.from([value >> 8, value & 255])
const u32 = (value: number) => Buffer.concat([u16(value >>> 16), u16(value & 0xffff)])

/** TPM2_PCR_Extend of one PCR, under an empty password, with these digests. */
function extend(pcr: number, digests: readonly (readonly [algorithm: number, digest: Buffer])[]): Buffer {
  const authorisation = Buffer.from('40000009000000000000', 'hex').subarray(0, 9)
  const values = digests.map(([algorithm, digest]) => Buffer.concat([u16(algorithm), digest]))
  const body = [u32(0x182), u32(pcr), u32(authorisation.length), authorisation, u32(digests.length), ...values]
  const length = 6 + body.reduce((sum, part) => sum + part.length, 0)
  return Buffer.concat([u16(0x8002), u32(length), ...body])
}

const answer = (code: number) => Buffer.concat([u16(0x8001), u32(10), u32(code)])

function record(name: string, bytes: Buffer): string {
  const lines: string[] = []
  for (let at = 0; at < bytes.length; at += 16) {
    const row = [...bytes.subarray(at, at + 16)].map((byte) => byte.toString(16).toUpperCase().padStart(2, '0'))
    lines.push(` ${row.join(' ')} \n`)
  }
  return ` ${name}: length ${bytes.length}\n${lines.join('')}`
}

const told = (command: Buffer, code = 0) =>
  `${record('SWTPM_IO_Read', command)}${record('SWTPM_IO_Write', answer(code))}`
const control = record('Ctrl Cmd', u32(0x10)) + record('Ctrl Rsp', u32(0))
const [sha1, sha256, one, two] = [20, 32, 48, 48].map((length, i) => Buffer.alloc(length, i + 1)) as [
  Buffer,
  Buffer,
  Buffer,
  Buffer,
]

describe('log of a software TPM', () => {
  it('gives the SHA-384 digests in order, whatever other banks and commands there are', () => {
    const other = Buffer.concat([u16(0x8001), u32(12), u32(0x144), u16(0)])
    const log = [
      control,
      told(other),
      told(
        extend(4, [
          [0x0004, sha1],
          [0x000b, sha256],
          [0x000c, one],
        ]),
      ),
      control,
      told(extend(9, [[0x000c, two]])),
      told(extend(9, [[0x000b, sha256]])),
    ].join('')
    expect(extendedIn(log)).toEqual([
      { pcr: 4, digest: one },
      { pcr: 9, digest: two },
    ])
  })

  it('leaves out what the TPM refused, and what it had not answered', () => {
    const refused = told(extend(4, [[0x000c, one]]), 0x101)
    expect(extendedIn(refused + record('SWTPM_IO_Read', extend(9, [[0x000c, two]])))).toEqual([])
  })

  it('does not guess: a digest of a kind it does not know, and a record that is cut short', () => {
    expect(() => extendedIn(told(extend(4, [[0x0099, one]])))).toThrow(/algorithm 0x99/)
    const whole = told(extend(4, [[0x000c, one]]))
    expect(() => extendedIn(whole.replace('length 81', 'length 99'))).toThrow(/cut short/)
  })
})
