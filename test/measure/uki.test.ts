/** Unified kernel images: one written by the image scripts, one that a booted machine measured, and what is refused. */
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { unifiedKernelImage } from '../../scripts/image/uki.js'
import { authenticodeSha384 } from '../../verifier/measure/authenticode.js'
import { parsePe } from '../../verifier/measure/pe.js'
import { parseUki, ukiRtmr1, ukiRtmr2 } from '../../verifier/measure/uki.js'
import { toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { buildPe } from './firmware-files.js'

const sha384 = (bytes: Uint8Array | string) => createHash('sha384').update(bytes).digest()
const replay = (events: readonly Uint8Array[]) =>
  events.reduce<Uint8Array>((at, event) => sha384(Buffer.concat([at, event])), new Uint8Array(48))

const kernel = buildPe(utf8('a kernel'))
const initrd = utf8('an initrd, longer than it looks')
const commandLine = 'console=ttynull quiet'
const stub = buildPe(utf8('the code of a stub'))
/** The stub, its headers shorter: SizeOfHeaders of the optional header at 0x58. */
const headersEnding = (at: number) => {
  const copy = Buffer.from(stub)
  copy.writeUInt32LE(at, 0x58 + 60)
  return copy
}
const named = (name: string) => {
  const copy = Buffer.from(stub)
  copy.write(name, copy.indexOf('.text'), 'latin1')
  return copy
}
const uki = unifiedKernelImage(stub, { commandLine, initrd, kernel })
const parsed = () => {
  const image = parseUki(uki)
  if (image === undefined) throw new Error('expected a unified kernel image')
  return image
}

describe('a unified kernel image', () => {
  it('has its parts as sections behind those of the stub, aligned in file and memory, none over another', () => {
    const { sections } = parsePe(uki)
    expect(sections.map(({ name }) => name)).toEqual(['.text', '.cmdline', '.initrd', '.linux'])
    expect(sections.slice(1).map(({ memoryBytes }) => memoryBytes)).toEqual([
      commandLine.length,
      initrd.length,
      kernel.length,
    ])
    for (const [i, { offset, fileBytes }] of sections.entries()) {
      expect(offset % 0x200).toBe(0)
      expect(offset + fileBytes).toBeLessThanOrEqual(sections[i + 1]?.offset ?? uki.length)
    }
    expect(Buffer.from(parsed().sections['.initrd'] ?? []).toString()).toBe('an initrd, longer than it looks')
  })

  it('is the same every time', () => {
    expect(unifiedKernelImage(stub, { commandLine, initrd, kernel })).toEqual(uki)
  })

  it.each([
    ['no PE file', utf8('MZ and nothing'), /expected a PE file/],
    ['no room', headersEnding(0x180), /expected room/],
    ['a kernel already', named('.linux'), /expected no section \.linux/],
  ])('is not made of a stub with %s', (_, file, reason) => {
    expect(() => unifiedKernelImage(file, { commandLine, initrd, kernel })).toThrow(reason)
  })
})

describe('RTMR1 and RTMR2 of one', () => {
  // The order in which a machine booted with a TPM measured, its PCR 4 and 5, and its PCR 11 and 9.
  it('are the file, the kernel inside and the fixed events', () => {
    const events = [
      authenticodeSha384(uki),
      sha384('Calling EFI Application from Boot Option'),
      sha384(new Uint8Array(4)),
      authenticodeSha384(kernel),
      sha384('Exit Boot Services Invocation'),
      sha384('Exit Boot Services Returned with Success'),
    ]
    expect(toHex(ukiRtmr1(parsed()))).toBe(Buffer.from(replay(events)).toString('hex'))
  })

  it('are every section by name and contents, then command line and initrd once more', () => {
    const events = [
      ...[sha384('.linux\0'), sha384(kernel), sha384('.cmdline\0'), sha384(commandLine)],
      ...[sha384('.initrd\0'), sha384(initrd)],
      ...[sha384(Buffer.from(`${commandLine}\0`, 'utf16le')), sha384(initrd)],
    ]
    expect(toHex(ukiRtmr2(parsed()))).toBe(Buffer.from(replay(events)).toString('hex'))
  })

  it('cover every part', () => {
    const both = (parts: Partial<{ commandLine: string; initrd: Uint8Array; kernel: Uint8Array }>) => {
      const image = parseUki(unifiedKernelImage(stub, { commandLine, initrd, kernel, ...parts }))
      return image === undefined ? '' : `${toHex(ukiRtmr1(image))}${toHex(ukiRtmr2(image))}`
    }
    const all = [{}, { commandLine: 'quiet' }, { initrd: utf8('x') }, { kernel: buildPe(utf8('another')) }].map(both)
    expect(new Set(all).size).toBe(4)
  })
})

describe('what is refused', () => {
  const renamed = (from: string, to: string) => {
    const copy = Buffer.from(uki)
    copy.write(to.padEnd(8, '\0'), copy.indexOf(from), 'latin1')
    return copy
  }

  it('a plain kernel is none', () => {
    expect(parseUki(kernel)).toBeUndefined()
  })

  it.each([
    ['a section whose place in the order is not known', renamed('.initrd', '.dtb'), /"\.dtb" is not known/],
    ['two sections of one name', renamed('.initrd', '.linux'), /two sections \.linux/],
  ])('%s', (_, file, reason) => {
    expect(() => parseUki(file)).toThrow(reason)
  })

  it.each([
    ['none', ''],
    ['space in front', ' quiet'],
    ['space behind', 'quiet '],
    ['a NUL', 'quiet\0'],
    ['a line end', 'quiet\n'],
    ['other than ASCII', 'ü'],
    ['more than a kernel takes', 'q'.repeat(2049)],
  ])('a command line of %s', (_, text) => {
    const image = parseUki(unifiedKernelImage(stub, { commandLine: text, initrd, kernel }))
    expect(() => image && ukiRtmr2(image)).toThrow(FormatError)
  })

  it('anything else, by FormatError and nothing else', () => {
    fc.assert(
      fc.property(fc.nat({ max: uki.length - 1 }), fc.integer({ min: 0, max: 255 }), fc.nat(), (at, value, cut) => {
        const file = new Uint8Array(uki)
        file[at] = value
        for (const bytes of [file, file.subarray(0, cut % file.length)]) {
          try {
            const image = parseUki(bytes)
            if (image !== undefined) ukiRtmr2(image)
          } catch (error) {
            expect(error).toBeInstanceOf(FormatError)
          }
        }
      }),
    )
  })
})
