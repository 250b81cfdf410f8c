/** The kernel that images get is held against one that was built anew. */
import { mkdtempSync } from 'node:fs'
import { appendFile, cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest'

const caches = mkdtempSync(join(tmpdir(), 'subrosa-kernel-kept-'))
vi.stubEnv('XDG_CACHE_HOME', caches)
// After that: where the cache is, is decided once.
const { compareWithKept, ownKernel } = await import('../../scripts/image/kernel.js')
const { loadLock } = await import('../../scripts/image/lock.js')
const { cacheFolder, repository } = await import('../../scripts/image/places.js')
const lock = await loadLock()

let built: string

beforeEach(async () => {
  // Nothing here may come near a cache that is in use.
  expect(cacheFolder.startsWith(caches)).toBe(true)
  await rm(join(caches, 'subrosa'), { recursive: true, force: true })
  built = await mkdtemp(join(caches, 'built-'))
  for (const name of ['config', 'vmlinuz']) await writeFile(join(built, name), `the ${name}`)
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await rm(caches, { recursive: true })
})

describe('a kernel that was built anew', () => {
  it('is kept where none is, and images get it', async () => {
    await expect(compareWithKept(built, { lock })).resolves.toMatch(/\bvmlinuz 11 [0-9a-f]{64}$/)
    expect(await readFile(join(await ownKernel({ lock }), 'vmlinuz'), 'utf8')).toBe('the vmlinuz')
  })

  it('is the same as the one that is kept', async () => {
    await compareWithKept(built, { lock })
    await expect(compareWithKept(built, { lock })).resolves.toMatch(/\bvmlinuz 11 [0-9a-f]{64}$/)
  })

  it('is not passed off for a kept one that is another, which stays for whoever looks into it', async () => {
    await compareWithKept(built, { lock })
    await writeFile(join(built, 'vmlinuz'), 'another kernel')
    await expect(compareWithKept(built, { lock })).rejects.toThrow('identical vmlinuz, got a difference from byte 0 on')
    expect(await readFile(join(await ownKernel({ lock }), 'vmlinuz'), 'utf8')).toBe('the vmlinuz')
  })

  it('is kept by its name', async () => {
    await compareWithKept(built, { lock, name: 'kernel' })
    await mkdir(join(built, 'modules'))
    await writeFile(join(built, 'modules', 'nvidia.ko'), 'a module')
    await compareWithKept(built, { lock, name: 'gpu-kernel' })
    expect(await kernels()).toHaveLength(2)
  })

  it('is kept by what makes it: its stages of the recipe and the files they copy, and nothing else', async () => {
    const context = await mkdtemp(join(caches, 'checkout-'))
    const recipe = join(context, 'Dockerfile.enclave')
    for (const path of ['Dockerfile.enclave', 'scripts/image/kernel', 'scripts/image/gpu'])
      await cp(join(repository, path), join(context, path), { recursive: true })
    const text = await readFile(recipe, 'utf8')
    const keptAfter = async (change: () => Promise<unknown>) => {
      await change()
      await compareWithKept(built, { lock, context })
      return (await kernels()).length
    }
    const recipeWith = (from: string, to: string) => writeFile(recipe, text.replace(from, to))
    expect(await keptAfter(async () => undefined)).toBe(1)
    expect(await keptAfter(() => recipeWith('RUN sh /src/guest/assemble.sh', 'RUN sh /src/guest/other.sh'))).toBe(1)
    expect(await keptAfter(() => recipeWith('RUN sh /src/kernel/build.sh', 'RUN sh /src/kernel/other.sh'))).toBe(2)
    expect(await keptAfter(() => appendFile(join(context, 'scripts', 'image', 'gpu', 'config'), '#'))).toBe(2)
    expect(await keptAfter(() => appendFile(join(context, 'scripts', 'image', 'kernel', 'config'), '#'))).toBe(3)
  })
})

async function kernels(): Promise<readonly string[]> {
  return (await readdir(join(caches, 'subrosa', 'kernel'))).filter((name) => !name.includes('.'))
}
