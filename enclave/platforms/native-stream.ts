/**
 * A byte stream over a kind of socket that Node does not know: vsock (Linux include/uapi/linux/vm_sockets.h). Blocking calls on
 * threads of the foreign-function library, each bounded by the socket's own timeouts, the whole by a deadline between them.
 */
import { type Bytes, concat, toBytes, utf8 } from '../../verifier/protocol/bytes.js'
import { FRAME_HEAD_BYTES, frameLength } from '../../verifier/protocol/endorsement-exchange.js'
import { WorkerError } from '../errors.js'
import { loadLibrary, type NativeLibrary } from './native.js'

const AF_UNIX = 1
const AF_VSOCK = 40
const SOCK_STREAM = 1
const SOCK_CLOEXEC = 0o2000000
const MSG_NOSIGNAL = 0x4000
const SOL_SOCKET = 1
const SO_RCVTIMEO = 20
const SO_SNDTIMEO = 21
const SUN_PATH_BYTES = 108
const PIECE_BYTES = 64 * 1024
/** One call waits at most this long; a thread is not held longer. */
const CALL_TIMEOUT_S = 5

const PROTOTYPES = {
  socket: 'int socket(int domain, int type, int protocol)',
  setsockopt: 'int setsockopt(int fd, int level, int name, void *value, uint32_t length)',
  connect: 'int connect(int fd, void *address, uint32_t length)',
  send: 'int send(int fd, void *bytes, size_t length, int flags)',
  recv: 'int recv(int fd, void *bytes, size_t length, int flags)',
  close: 'int close(int fd)',
} as const

/** struct sockaddr_vm: u16 family, u16 reserved, u32 port, u32 context id, 4 reserved. */
export function vsockAddress(cid: number, port: number): Bytes {
  const address = new Uint8Array(16)
  const view = new DataView(address.buffer)
  view.setUint16(0, AF_VSOCK, true)
  view.setUint32(4, port, true)
  view.setUint32(8, cid, true)
  return address
}

/** struct sockaddr_un. */
export function unixAddress(path: string): Bytes {
  const name = utf8(path)
  if (name.length >= SUN_PATH_BYTES) throw new RangeError(`expected a path of at most ${SUN_PATH_BYTES - 1} bytes`)
  return toBytes(concat(Uint8Array.of(AF_UNIX, 0), name, new Uint8Array(SUN_PATH_BYTES - name.length)))
}

export interface AnswerLimits {
  /** For the whole exchange. */
  readonly timeoutMs: number
  /** Of the answer's payload. */
  readonly maxBytes: number
}

/** Sends one frame and reads one. @throws WorkerError `worker.relay` */
export async function exchangeNative(
  address: Bytes,
  frame: Bytes,
  { timeoutMs, maxBytes }: AnswerLimits,
): Promise<Bytes> {
  const libc = loadLibrary(undefined, PROTOTYPES)
  const [family = 0] = address
  const { value: fd, errno } = await libc.call('socket', family, SOCK_STREAM | SOCK_CLOEXEC, 0)
  if (fd < 0) throw unreachable(errno)
  try {
    const until = performance.now() + timeoutMs
    for (const name of [SO_RCVTIMEO, SO_SNDTIMEO]) {
      const time = new Uint8Array(16)
      new DataView(time.buffer).setBigInt64(0, BigInt(Math.min(CALL_TIMEOUT_S, Math.ceil(timeoutMs / 1000))), true)
      await libc.call('setsockopt', fd, SOL_SOCKET, name, time, time.length)
    }
    const connected = await libc.call('connect', fd, address, address.length)
    if (connected.value !== 0) throw unreachable(connected.errno)
    await sendAll(libc, fd, frame)
    const head = await receive(libc, fd, FRAME_HEAD_BYTES, until)
    return await receive(libc, fd, frameLength(head, maxBytes), until)
  } finally {
    await libc.call('close', fd)
  }
}

async function sendAll(libc: NativeLibrary, fd: number, bytes: Bytes): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { value, errno } = await libc.call('send', fd, bytes.subarray(at), bytes.length - at, MSG_NOSIGNAL)
    if (value <= 0) throw unreachable(errno)
    at += value
  }
}

async function receive(libc: NativeLibrary, fd: number, length: number, until: number): Promise<Bytes> {
  const pieces: Uint8Array[] = []
  for (let left = length; left > 0; ) {
    if (performance.now() > until) throw new WorkerError('worker.relay', 'the relay gave no answer in time')
    const piece = new Uint8Array(Math.min(left, PIECE_BYTES))
    const { value, errno } = await libc.call('recv', fd, piece, piece.length, 0)
    if (value === 0) throw new WorkerError('worker.relay', `the relay ended ${left} bytes early`)
    if (value < 0 && errno !== 'EAGAIN' && errno !== 'EINTR') throw unreachable(errno)
    if (value < 0) continue
    pieces.push(piece.subarray(0, value))
    left -= value
  }
  return toBytes(concat(...pieces))
}

function unreachable(errno: string): WorkerError {
  return new WorkerError('worker.relay', `the relay cannot be reached (${errno})`)
}
