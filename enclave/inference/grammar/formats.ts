/**
 * `format` of JSON Schema as patterns: for each, texts that every reader takes for one, and not all there are. Dates leave
 * out 29 February and leap seconds, addresses leave out what is rare.
 */
import type { PatternBudget } from './json.js'
import { type Length, patternCharacters } from './pattern.js'
import { stringTerminal } from './string-terminal.js'
import type { Terminal } from './terminal.js'

const OCTET = '(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
const DATE = '[0-9]{4}-((0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])-(29|30)|(0[13578]|1[02])-31)'
const TIME = '([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])'
const LABEL = '[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?'
const GROUP = '[0-9a-f]{1,4}'

const PATTERNS: ReadonlyMap<string, string> = new Map([
  ['date', `^${DATE}$`],
  ['time', `^${TIME}$`],
  ['date-time', `^${DATE}T${TIME}$`],
  ['duration', '^P([0-9]{1,3}D(T[0-9]{1,3}H)?|T[0-9]{1,3}H([0-9]{1,3}M)?|T[0-9]{1,3}M|T[0-9]{1,3}S|[0-9]{1,3}W)$'],
  ['email', `^[a-z0-9_+-]{1,30}(\\.[a-z0-9_+-]{1,30})?@${LABEL}(\\.${LABEL})?\\.[a-z]{2,10}$`],
  ['hostname', `^${LABEL}(\\.${LABEL}){0,3}$`],
  ['ipv4', `^(${OCTET}\\.){3}${OCTET}$`],
  ['ipv6', `^(${GROUP}:){7}${GROUP}$`],
  ['uuid', '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'],
])

export const FORMATS: readonly string[] = [...PATTERNS.keys()]

const made = new Map<string, Terminal>()

/** Undefined for a format that is not one of these, has no text of such a length, or costs more than is left of `budget`. */
export function formatTerminal(format: string, length: Length, budget: PatternBudget): Terminal | undefined {
  const known = made.get(format)
  const whole = length.min === 0 && length.max === undefined
  if (whole && known !== undefined) return known
  const pattern = PATTERNS.get(format)
  // A format as it stands is read once in the life of the process.
  const spent = whole ? { count: 1, steps: Number.POSITIVE_INFINITY } : budget
  const characters = pattern === undefined ? undefined : patternCharacters(pattern, length, spent)
  if (characters === undefined || !whole) return characters && stringTerminal(characters)
  const terminal: Terminal = { ...stringTerminal(characters), shared: true }
  made.set(format, terminal)
  return terminal
}
