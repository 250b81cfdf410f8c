/** The keeper of the GPUs' ready state, from both ends of the socket that the image's init makes. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex, Readable } from 'node:stream'
import { afterEach, describe, expect, it } from 'vitest'
import { compile, compileProgram, withoutCompiler } from './native.js'

const running: ChildProcess[] = []
afterEach(() => {
  for (const child of running.splice(0)) child.kill('SIGKILL')
})

/** Descriptor 3 of the child is one end of a socket, and what comes back is the other. */
function start(program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
    env: { ...process.env, ...env },
  })
  running.push(child)
  return { child, socket: child.stdio[3] as Duplex, out: child.stdout as Readable }
}

const byte = async (socket: Duplex): Promise<number> => ((await once(socket, 'data'))[0] as Buffer)[0] as number

describe.skipIf(withoutCompiler)(`the image’s keeper${withoutCompiler ? ' (no C compiler here)' : ''}`, () => {
  /** With the stand-in for the library where the loader looks. */
  async function keeper<T>(
    env: Readonly<Record<string, string>>,
    work: (it: ReturnType<typeof start>) => Promise<T>,
  ): Promise<T> {
    const folder = await mkdtemp(join(tmpdir(), 'subrosa-keeper-'))
    try {
      await symlink(compile('fake-nvml.c'), join(folder, 'libnvidia-ml.so.1'))
      const program = compileProgram('gpu-ready.c')
      return await work(start('sh', ['-c', 'exec "$0" <&3', program], { LD_LIBRARY_PATH: folder, ...env }))
    } finally {
      await rm(folder, { recursive: true })
    }
  }

  it('sets the state and answers with the driver’s code, again and again', () =>
    keeper({}, async ({ socket }) => {
      for (const wish of ['1', '0', '1']) {
        socket.write(wish)
        expect(await byte(socket)).toBe(0)
      }
    }))

  it('passes on that there is no driver', () =>
    keeper({ FAKE_NVML_FAULT: 'not-loaded' }, async ({ socket }) => {
      socket.write('1')
      expect(await byte(socket)).toBe(9)
    }))

  it('ends at anything that is no wish, without an answer', () =>
    keeper({}, async ({ child, socket }) => {
      socket.on('data', () => expect.unreachable('an answer'))
      socket.write('2')
      const [code] = await once(child, 'exit')
      expect(code).toBe(1)
    }))
})

describe('the worker’s end', () => {
  const module = JSON.stringify(join(import.meta.dirname, '../../dist/enclave/platforms/ready-keeper.js'))
  const worker = (calls: string, timeoutMs = 60_000) => {
    const program = `
      const { createReadyKeeper } = await import(${module})
      const setReady = createReadyKeeper(3, ${timeoutMs})
      const said = async (ready) => setReady(ready).catch((error) => error.code + ': ' + error.message)
      process.stdout.write(JSON.stringify([${calls}]))
      process.exit(0)`
    const started = start(process.execPath, ['--input-type=module', '-e', program])
    const result = once(started.out, 'data').then(([text]) => JSON.parse(String(text)) as unknown)
    return { ...started, result }
  }

  it('asks one byte and takes one for the answer', async () => {
    const { socket, result } = worker('await said(true), await said(false)')
    const asked: string[] = []
    socket.on('data', (piece: Buffer) => {
      asked.push(String(piece))
      socket.write(Buffer.of(asked.length === 1 ? 0 : 4))
    })
    expect(await result).toEqual([0, 4])
    expect(asked).toEqual(['1', '0'])
  })

  it('says when the keeper is gone', async () => {
    const { socket, result } = worker('await said(true), await said(true)')
    socket.once('data', () => socket.destroy())
    expect(await result).toEqual([
      expect.stringMatching(/^worker\.gpu: the keeper of the ready state (is gone|cannot be reached)$/),
      'worker.gpu: the keeper of the ready state has stopped answering',
    ])
  })

  it('takes no late answer for that of another question', async () => {
    const { socket, result } = worker('await said(true), await said(false)', 200)
    socket.on('data', () => undefined)
    expect(await result).toEqual([
      'worker.gpu: the keeper of the ready state gave no answer within 200 ms',
      'worker.gpu: the keeper of the ready state has stopped answering',
    ])
  })
})
