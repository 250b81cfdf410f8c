/**
 * A reader that goes away early (`| head`) is no error and changes no verdict: what is left is not printed, and the exit
 * status stands. Node only.
 */
export function tolerateClosedPipe(...streams: readonly NodeJS.WritableStream[]): void {
  for (const stream of streams) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
    })
  }
}
