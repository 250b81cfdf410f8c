/** Looks at the guest from where the worker is: what can be written, run, reached, and what listens. Test flavour only. */
import { spawnSync } from 'node:child_process'
import { closeSync, existsSync, openSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'

export interface GuestProbe {
  readonly userId: number | undefined
  /** Folders in which a file could be made. */
  readonly writableFolders: readonly string[]
  /** Local TCP ports that listen, and UDP ports that are bound. */
  readonly listening: readonly string[]
  /** Programs that could be started besides the worker's own. */
  readonly shells: readonly string[]
  readonly setuid: readonly string[]
  /** A line for each thing tried: its name, and the error it met or ALLOWED. */
  readonly denied: readonly string[]
  /** Device nodes there are. */
  readonly devices: readonly string[]
  /** Kernel modules that are loaded. */
  readonly modules: readonly string[]
  readonly mounts: readonly string[]
  readonly processes: readonly string[]
}

const SHELLS = ['/bin/sh', '/bin/bash', '/usr/bin/sh', '/bin/busybox', '/usr/bin/apt', '/usr/bin/dpkg', '/sbin/init']

export async function probeGuest(): Promise<GuestProbe> {
  const folders = foldersUnder('/')
  return {
    userId: process.getuid?.(),
    writableFolders: folders.filter(isWritable),
    listening: ['tcp', 'tcp6', 'udp', 'udp6'].flatMap(boundPorts),
    shells: SHELLS.filter((path) => spawnSync(path, ['-c', ':']).error === undefined),
    setuid: folders.flatMap(setuidIn),
    denied: spawnSync('/app/probe', [], { encoding: 'utf8' }).stdout?.trim().split('\n') ?? [],
    devices: readdirSync('/dev').sort(),
    modules: loadedModules(),
    mounts: readFileSync('/proc/self/mounts', 'utf8').trim().split('\n'),
    processes: readdirSync('/proc').filter((name) => /^\d+$/.test(name)),
  }
}

/** Every folder but those of processes, which come and go. */
function foldersUnder(path: string): string[] {
  try {
    const inside = readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && !(path === '/proc' && /^\d+$/.test(entry.name)))
      .flatMap((entry) => foldersUnder(`${path === '/' ? '' : path}/${entry.name}`))
    return [path, ...inside]
  } catch {
    return [path]
  }
}

function isWritable(folder: string): boolean {
  const file = `${folder === '/' ? '' : folder}/.subrosa-probe`
  try {
    closeSync(openSync(file, 'wx'))
    rmSync(file)
    return true
  } catch {
    return false
  }
}

function boundPorts(protocol: string): string[] {
  const file = `/proc/net/${protocol}`
  // A kernel without IPv6 has no list of its ports.
  if (!existsSync(file)) return []
  const lines = readFileSync(file, { encoding: 'utf8' }).trim().split('\n').slice(1)
  return lines.flatMap((line) => {
    const [, local = '', , state] = line.trim().split(/\s+/)
    // 0A is LISTEN; a bound UDP socket is 07.
    if (state !== (protocol.startsWith('tcp') ? '0A' : '07')) return []
    return [`${protocol}:${Number.parseInt(local.split(':')[1] ?? '', 16)}`]
  })
}

function loadedModules(): string[] {
  const file = '/proc/modules'
  // A kernel that takes no modules has no list of them.
  if (!existsSync(file)) return []
  return readFileSync(file, 'utf8')
    .split('\n')
    .flatMap((line) => (line === '' ? [] : [line.split(' ')[0] ?? '']))
}

function setuidIn(folder: string): string[] {
  try {
    return readdirSync(folder)
      .map((name) => `${folder}/${name}`)
      .filter((path) => (statSync(path).mode & 0o6000) !== 0)
  } catch {
    return []
  }
}
