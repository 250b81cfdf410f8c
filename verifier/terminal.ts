/** Colour on a terminal only, and never where NO_COLOR says no. Node only. */
import { createColors } from 'picocolors'
import { PLAIN, type Style, toAscii } from './text.js'

export function terminalStyle(stream: NodeJS.WritableStream): Style {
  if ((stream as { isTTY?: boolean }).isTTY !== true || process.env['NO_COLOR'] !== undefined) return PLAIN
  const colours = createColors(true)
  return { good: colours.green, bad: colours.red, dim: colours.dim, strong: colours.bold }
}

/** Text as the stream can show it: a pipe, a file or NO_COLOR gets plain ASCII. */
export function forStream(stream: NodeJS.WritableStream, text: string): string {
  return terminalStyle(stream) === PLAIN ? toAscii(text) : text
}
