/**
 * Calls that Node has no binding for, through the foreign-function library: ioctl, and NVIDIA's management library. Every
 * function takes and returns integers and pointers to buffers of the caller, which stay referenced until the call is over;
 * calls run on threads of the library, so a device that takes its time does not hold the worker up.
 */
import koffi from 'koffi'
import type { Bytes } from '../../verifier/protocol/bytes.js'

type NativeFunction = ReturnType<ReturnType<typeof koffi.load>['func']>
type Argument = number | bigint | Uint8Array | string | null

/** Result of a C function that returns int, and errno right after it. */
export interface NativeResult {
  readonly value: number
  /** `EAGAIN`, …; `unknown` for numbers without a name. Means something only where the function says it failed. */
  readonly errno: string
}

export interface NativeLibrary {
  /** Calls a function that returns int. */
  call(name: string, ...args: readonly Argument[]): Promise<NativeResult>
}

/** C prototypes of what is called. */
export type Prototypes = Readonly<Record<string, string>>

/** Buffers that a call may still write to: the garbage collector must not take them. */
const inFlight = new Set<unknown>()

/** @param path undefined for what the process has loaded already, the C library included. @throws Error when it is not there. */
export function loadLibrary(path: string | undefined, prototypes: Prototypes): NativeLibrary {
  const library = koffi.load(path ?? null)
  const functions = new Map<string, NativeFunction>()
  return {
    call(name, ...args) {
      const known = functions.get(name) ?? library.func(prototypes[name] ?? '')
      functions.set(name, known)
      inFlight.add(args)
      return new Promise((resolve, reject) => {
        known.async(...args, (error: unknown, value: number) => {
          // The foreign-function library restores the errno of the call for the length of this callback.
          const errno = koffi.errno()
          inFlight.delete(args)
          if (error) reject(error)
          else resolve({ value, errno: errnoName(errno) })
        })
      })
    },
  }
}

/** Address of a buffer, for structures that point to others. The caller keeps the buffer alive. */
export function addressOf(buffer: Bytes): bigint {
  return BigInt(koffi.address(buffer))
}

function errnoName(value: number): string {
  return Object.entries(koffi.os.errno).find(([, number]) => number === value)?.[0] ?? 'unknown'
}
