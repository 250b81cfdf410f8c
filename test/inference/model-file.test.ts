import type { FileHandle } from 'node:fs/promises'
import { mkdtemp, open, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readPart } from '../../scripts/model/model-file.js'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-test-'))
})
afterAll(() => rm(folder, { recursive: true }))

describe('readPart', () => {
  it('goes on where the system gave less than it was asked for', async () => {
    const path = join(folder, 'weights')
    await writeFile(
      path,
      Uint8Array.from({ length: 100 }, (_, i) => i),
    )
    const file = await open(path)
    const slow = {
      read: (bytes: Buffer, at: number, length: number, position: number) =>
        file.read(bytes, at, Math.min(length, 7), position),
    } as unknown as FileHandle
    expect([...(await readPart(slow, 10, 50, 'weights'))]).toEqual(Array.from({ length: 50 }, (_, i) => 10 + i))
    await file.close()
  })

  it('refuses a file that was cut after it was opened', async () => {
    const path = join(folder, 'cut')
    await writeFile(path, new Uint8Array(100))
    const file = await open(path)
    await truncate(path, 60)
    await expect(readPart(file, 10, 90, 'layer 3')).rejects.toMatchObject({
      code: 'model.file',
      message: expect.stringContaining('layer 3: the file is cut short'),
    })
    await file.close()
  })
})
