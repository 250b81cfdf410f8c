/**
 * Chat templates under a limit. The library has none, and a template from a model package could run for ever, on the thread
 * that answers everybody. So evaluation is counted: one for each part of the template that is evaluated, and more where what
 * it gives is long, since filters and loops go through all of it. Whether a chat is within the limit depends on the template and
 * the chat alone, not on how fast the machine is.
 */
import { Environment, Interpreter, Template } from '@huggingface/jinja'
import { EngineError } from './errors.js'

/** What a template may cost by itself: real ones take some hundred steps. */
const STEPS = 500_000
/** And for each message; real ones take less than a hundred. */
const STEPS_A_MESSAGE = 1000
/** Elements of a list and characters of a text that count as a step. */
const [ITEMS_A_STEP, CHARACTERS_A_STEP] = [16, 64]
/** Parts of a new list or object, theirs included, that count as a step. */
const PARTS_A_STEP = 4
const MAX_RANGE = 100_000

export type TemplateVariables = Readonly<Record<string, unknown>>

export interface ChatTemplate {
  /** @throws EngineError `chat.invalid`, without a cause: errors of templates may quote the chat. */
  render(messages: readonly unknown[], variables?: TemplateVariables): string
}

/**
 * `common` are what every chat is rendered with: the names of tokens.
 * @throws EngineError `package.unusable` when the template does not parse, or does not end with a short chat. Whether it takes
 * such a chat does not matter.
 */
export function createTemplate(source: string, common: TemplateVariables): ChatTemplate {
  const { parsed } = parse(source)
  const run = (messages: readonly unknown[], variables: TemplateVariables): unknown => {
    const scope = scopeOf({ ...common, ...variables, messages, add_generation_prompt: true })
    return new CountedInterpreter(scope, STEPS + STEPS_A_MESSAGE * messages.length).run(parsed).value
  }
  try {
    run([{ role: 'user', content: 'x' }], {})
  } catch (error) {
    if (error instanceof TooLongError) throw new EngineError('package.unusable', error.message)
  }
  return {
    render(messages, variables = {}) {
      let why = 'the chat template refused this chat'
      try {
        const text = run(messages, variables)
        if (typeof text === 'string') return text
      } catch (error) {
        if (error instanceof TooLongError) why = error.message
      }
      throw new EngineError('chat.invalid', why)
    },
  }
}

function parse(source: string): Template {
  try {
    return new Template(source)
  } catch (cause) {
    throw new EngineError('package.unusable', 'the chat template does not parse', { cause })
  }
}

/** The library's own types do not resolve under Node's rules for modules. */
interface Value {
  readonly value: unknown
}
interface Evaluator {
  run(program: unknown): Value
  evaluate(statement: Statement | undefined, scope: unknown): Value
}
interface Statement {
  readonly type: string
  /** Of a loop: a list, or a selection from the list `lhs`. */
  readonly iterable?: Statement
  readonly lhs?: Statement
}
interface Scope {
  set(name: string, value: unknown): void
}
const BaseInterpreter = Interpreter as unknown as new (scope: Scope) => Evaluator
const BaseEnvironment = Environment as unknown as new () => Scope

class CountedInterpreter extends BaseInterpreter {
  #left: number
  readonly #loopedOver = new Set<Statement | undefined>()
  readonly #sizes = new WeakMap<Value, number>()

  constructor(scope: Scope, steps: number) {
    super(scope)
    this.#left = steps
  }

  override evaluate(statement: Statement | undefined, scope: unknown): Value {
    this.#spend(1)
    if (statement?.type === 'For') this.#loopedOver.add(statement.iterable?.lhs ?? statement.iterable)
    const result = super.evaluate(statement, scope)
    const { value } = result
    if (!this.#sizes.has(result)) this.#spend((this.#unfolded(result) - 1) / PARTS_A_STEP)
    if (typeof value === 'string') this.#spend(value.length / CHARACTERS_A_STEP)
    else if (Array.isArray(value) || value instanceof Map) {
      const items = Array.isArray(value) ? value.length : value.size
      // A round of a loop costs as much as anything, though its body is empty.
      this.#spend(this.#loopedOver.has(statement) ? items : items / ITEMS_A_STEP)
    }
    return result
  }

  /** Parts of a value with each as often as it is found in it: lists may hold one list many times, and filters write them all out. */
  #unfolded(value: Value): number {
    const known = this.#sizes.get(value)
    if (known !== undefined) return known
    let size = 1
    if (Array.isArray(value.value)) for (const item of value.value as Value[]) size += this.#unfolded(item)
    else if (value.value instanceof Map) for (const item of value.value.values()) size += this.#unfolded(item as Value)
    if (size > 1) this.#sizes.set(value, size)
    return size
  }

  #spend(steps: number): void {
    this.#left -= steps
    if (this.#left < 0) throw new TooLongError()
  }
}

class TooLongError extends Error {
  constructor() {
    super('the chat template goes on for too long')
  }
}

/** What the library's own `render` offers to templates, with a bound on lists of numbers, which it makes in one step. */
function scopeOf(variables: TemplateVariables): Scope {
  const scope = new BaseEnvironment()
  for (const [name, value] of Object.entries({
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    range: boundedRange,
    raise_exception: () => {
      throw new Error('the template refuses')
    },
    strftime_now: (format: unknown) => LIBRARYS_DATE.render({ format }),
    ...variables,
  })) {
    scope.set(name, value)
  }
  return scope
}

/** The library exports its own function of that name to templates only. */
const LIBRARYS_DATE = new Template('{{ strftime_now(format) }}')

function boundedRange(first: number, second?: number, step = 1): number[] {
  const [from, to] = second === undefined ? [0, first] : [first, second]
  const count = Math.max(0, Math.ceil((to - from) / step))
  if (!(count <= MAX_RANGE)) throw new TooLongError()
  return Array.from({ length: count }, (_, i) => from + i * step)
}
