/**
 * Runs the server: as a user of its own, who has no access to the machine's attestation, with nothing of the worker's
 * environment and nowhere to write its output to; and asks it now and then whether it still answers.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { lstat, rm } from 'node:fs/promises'
import { EngineError } from '../errors.js'
import { type ServerConfig, serverDigest, serverEnvironment } from './config.js'
import type { RunningServer } from './engine.js'
import { ask } from './http.js'

export interface LaunchOptions {
  /** On a simulated machine the server may be of any kind, and runs as the worker's user where there is no other. */
  readonly simulated: boolean
  /** Longest time until it answers. Default 10 minutes: large models take long to load. */
  readonly startMs?: number
  /** Default 5 s. */
  readonly intervalMs?: number
}

const GRACE_MS = 5000
const PROBE_MS = 5000

/** @throws EngineError `server.config` where it would share the worker's user, or `engine.failed` when it does not come up. */
export async function launchServer(config: ServerConfig, options: LaunchOptions): Promise<RunningServer> {
  const user = userFor(config, options.simulated)
  const digest = await serverDigest(config)
  await removeStaleSocket(config.listen)
  const child = spawn(config.program, config.arguments, {
    cwd: '/',
    env: serverEnvironment(config),
    // What it prints may be about prompts.
    stdio: 'ignore',
    ...user,
  })
  let failed = false
  child.on('error', () => {
    failed = true
  })
  const runs = (): boolean => !failed && child.exitCode === null && child.signalCode === null
  let healthy = false
  const probe = async (): Promise<void> => {
    healthy = runs() && (await answers(config.listen))
  }
  const startedAt = performance.now()
  while (!healthy && runs() && performance.now() - startedAt < (options.startMs ?? 600_000)) {
    await probe()
    if (!healthy) await new Promise((resolve) => setTimeout(resolve, 100))
  }
  if (!healthy) {
    await end(child, runs)
    throw new EngineError('engine.failed', 'the server did not come up')
  }
  const timer = setInterval(() => void probe(), options.intervalMs ?? 5000)
  timer.unref()
  return {
    config,
    digest,
    healthy: () => healthy && runs(),
    async close() {
      clearInterval(timer)
      await end(child, runs)
    },
  }
}

/** @throws EngineError `server.config` where it would share the worker's user. */
function userFor({ uid, gid }: ServerConfig, simulated: boolean): { readonly uid?: number; readonly gid?: number } {
  const own = process.getuid?.()
  if (own === 0) return { uid, gid }
  if (simulated) return {}
  throw new EngineError('server.config', 'uid: only root can run the server as a user of its own')
}

/** One that a server before this one left behind would keep the new one from listening. */
async function removeStaleSocket(listen: string): Promise<void> {
  const found = listen.startsWith('/') ? await lstat(listen).catch(() => undefined) : undefined
  if (found?.isSocket() === true) await rm(listen)
}

async function answers(listen: string): Promise<boolean> {
  try {
    const { status, body } = await ask(listen, '/health', undefined, undefined, PROBE_MS)
    for await (const _ of body) break
    return status === 200
  } catch {
    return false
  }
}

async function end(child: ChildProcess, runs: () => boolean): Promise<void> {
  if (!runs()) return
  const closed = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), GRACE_MS)
  await closed
  clearTimeout(timer)
}
