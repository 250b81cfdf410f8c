/** What computing with CUDA takes: all that is missing is named at once, by name and place. No GPU is needed, and none is used. */
import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { findCuda } from '../../enclave/inference/ort/cuda.js'
import { neededLibraries } from '../../enclave/inference/ort/elf.js'
import { createDecoder } from '../../enclave/inference/ort/engine.js'
import { findLibrary } from '../../enclave/inference/ort/library.js'
import { randomPackage, SMALL } from '../../scripts/bench/random-model.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { sha256 } from '../../verifier/protocol/hash.js'

const SHARED = 'libonnxruntime_providers_shared.so'
const KERNELS = 'libonnxruntime_providers_cuda.so'
const NEEDED = ['libcublas.so.12', 'libcudart.so.12', 'libcuda.so.1', 'libc.so.6']
const DEVICES = ['null', 'nvidiactl', 'nvidia-uvm', 'nvidia3']

/** A shared library of one segment, which names these others, and `text` behind them. */
function libraryNaming(names: readonly string[], text: string): Buffer {
  const strings = Buffer.from(`\0${names.map((name) => `${name}\0`).join('')}`)
  const header = Buffer.alloc(64)
  header.write('\x7fELF\x02\x01\x01', 'latin1')
  header.writeBigUInt64LE(64n, 32)
  header.writeUInt16LE(56, 54)
  header.writeUInt16LE(2, 56)
  const at = 64 + 2 * 56
  const dynamic = Buffer.alloc((names.length + 2) * 16)
  const address = 0x1000
  let offset = 1
  for (const [i, name] of names.entries()) {
    dynamic.writeBigUInt64LE(1n, i * 16)
    dynamic.writeBigUInt64LE(BigInt(offset), i * 16 + 8)
    offset += name.length + 1
  }
  dynamic.writeBigUInt64LE(5n, names.length * 16)
  dynamic.writeBigUInt64LE(BigInt(address + at + dynamic.length), names.length * 16 + 8)
  const total = at + dynamic.length + strings.length
  const program = (type: number, from: number, length: number): Buffer => {
    const entry = Buffer.alloc(56)
    entry.writeUInt32LE(type, 0)
    entry.writeBigUInt64LE(BigInt(from), 8)
    entry.writeBigUInt64LE(BigInt(address + from), 16)
    entry.writeBigUInt64LE(BigInt(length), 32)
    return entry
  }
  const programs = [program(1, 0, total), program(2, at, dynamic.length)]
  return Buffer.concat([header, ...programs, dynamic, strings, Buffer.from(`\0${text}\0`), Buffer.alloc(256)])
}

describe('what computing with CUDA takes', () => {
  let directory: string
  const find = (
    loads: (name: string) => boolean = () => true,
    devices: readonly string[] = DEVICES,
  ): ReturnType<typeof findCuda> =>
    findCuda(directory, '1.30.0', {
      load: (name) => (loads(name) ? undefined : 'cannot open shared object file'),
      devices: () => devices,
    })
  const messageOf = async (found: Promise<unknown>): Promise<string> => {
    const error: unknown = await found.then(
      () => undefined,
      (reason: unknown) => reason,
    )
    expect(error).toMatchObject({ code: 'device.unavailable' })
    return error instanceof Error ? error.message : ''
  }

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'cuda-'))
  })

  afterAll(() => rm(directory, { recursive: true }))

  it('is all named where nothing is there: both providers with their release, the driver, the devices', async () => {
    const message = await messageOf(find(() => false, ['null']))
    for (const part of [SHARED, KERNELS, directory, 'onnxruntime-gpu 1.30.0', 'libcuda.so.1', 'LD_LIBRARY_PATH']) {
      expect(message).toContain(part)
    }
    for (const part of ['/dev/nvidiactl', '/dev/nvidia-uvm', '/dev/nvidia0', 'cannot open shared object file']) {
      expect(message).toContain(part)
    }
  })

  it('is found whole, and says which code computes', async () => {
    const [shared, kernels] = [Buffer.from('bridge'), libraryNaming(NEEDED, '1.30.0')]
    await writeFile(join(directory, SHARED), shared)
    await writeFile(join(directory, KERNELS), kernels)
    expect(await find()).toEqual([
      { part: 'shared', path: join(directory, SHARED), sha256: toHex(sha256(shared)) },
      { part: 'cuda', path: join(directory, KERNELS), sha256: toHex(sha256(kernels)) },
    ])
  })

  it.each(NEEDED.slice(0, 3))('names %s of the libraries that the provider names, and no other', async (lacking) => {
    const message = await messageOf(find((name) => name !== lacking))
    for (const name of NEEDED) expect(message.includes(`${name},`)).toBe(name === lacking)
    expect(message).not.toContain('/dev/')
    expect(message).not.toContain(KERNELS)
  })

  it('takes a library that lies beside the provider', async () => {
    const beside = join(directory, 'libcublas.so.12')
    await writeFile(beside, '')
    const asked: string[] = []
    await find((name) => asked.push(name) > 0)
    expect(asked).toEqual([beside, 'libcudart.so.12', 'libcuda.so.1'])
    await rm(beside)
  })

  it.each(DEVICES.slice(1))('names the device file that is not there: %s', async (device) => {
    const without = DEVICES.filter((name) => name !== device)
    expect(await messageOf(find(undefined, without))).toContain(`/dev/${device.replace('3', '0')}: `)
  })

  it.each(['1.29.0', '11.30.0', '1.30.01'])('refuses a provider of release %s', async (release) => {
    await writeFile(join(directory, KERNELS), libraryNaming(NEEDED, release))
    expect(await messageOf(find())).toContain('is of another release')
  })

  it('refuses what is no library', async () => {
    await writeFile(join(directory, KERNELS), '\x001.30.0\0')
    expect(await messageOf(find())).toContain('expected a shared library')
  })

  it('is asked for, and never leads to the CPU', async () => {
    const small = await randomPackage({ ...SMALL, layers: 1, vocabularySize: 256, contextLength: 64 }, 'fp32')
    await expect(createDecoder(small, { device: 'cuda' })).rejects.toMatchObject({ code: 'device.unavailable' })
  })
})

describe('the libraries that a library names', () => {
  const read = async (bytes: Uint8Array): Promise<string[]> =>
    neededLibraries({
      async read(buffer: Buffer, offset: number, length: number, position: number) {
        const piece = bytes.subarray(position, position + length)
        buffer.set(piece, offset)
        return { buffer, bytesRead: piece.length }
      },
    } as unknown as Parameters<typeof neededLibraries>[0])

  it('are read from its dynamic section', async () => {
    expect(await read(libraryNaming(NEEDED, ''))).toEqual(NEEDED)
  })

  it('are those of the runtime itself', async () => {
    const library = await findLibrary()
    if (library === undefined) return
    const file = await open(library.path)
    expect(await neededLibraries(file)).toContain('libstdc++.so.6')
    await file.close()
    expect((await readFile(library.path)).includes('libstdc++.so.6')).toBe(true)
  })

  it('are read or refused, whatever the bytes', async () => {
    const whole = libraryNaming(NEEDED, '')
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { maxLength: 8 }),
        fc.nat(whole.length),
        async (flips, length) => {
          const bytes = Buffer.from(whole.subarray(0, length))
          for (const [at, value] of flips) if (at < bytes.length) bytes[at] = value
          try {
            expect(await read(bytes)).toBeInstanceOf(Array)
          } catch (error) {
            expect(error).toBeInstanceOf(FormatError)
          }
        },
      ),
    )
  })
})
