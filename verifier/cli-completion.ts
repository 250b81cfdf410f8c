/** `verify-attestation completion SHELL`: a completion script, from the commands as they are. Node only. */
import { Argument, type Command } from 'commander'
import { type CommandFacts, commandFacts } from './cli-tree.js'
import type { Output } from './print.js'

const NAME = 'verify-attestation'
const SHELLS = { bash, zsh, fish } as const

export function registerCompletion(
  program: Command,
  output: Output,
  done: (status: number) => void,
  whole: () => Promise<Command>,
): void {
  program
    .command('completion')
    .description('print a completion script: source <(verify-attestation completion bash)')
    .addArgument(new Argument('<shell>', 'your shell').choices(Object.keys(SHELLS)))
    .action(async (shell: keyof typeof SHELLS) => {
      output.stdout.write(SHELLS[shell](commandFacts(await whole())))
      done(0)
    })
}

/** Words that may follow this command: its commands and its options. */
const words = ({ commands, options }: CommandFacts) => [...commands, ...options.map(({ name }) => name)]

function pathOptions(all: readonly CommandFacts[]): readonly string[] {
  return [...new Set(all.flatMap(({ options }) => options.filter(({ path }) => path).map(({ name }) => name)))]
}

function bash(all: readonly CommandFacts[]): string {
  const cases = all.map((one) => `    '${one.path.join(' ')}') words='${words(one).join(' ')}' ;;`)
  // One name may take other words under another command.
  const values = all.flatMap(({ path, options }) =>
    options
      .filter(({ choices }) => choices.length > 0)
      .map(({ name, choices }) => `    '${[...path, name].join(' ')}') words='${choices.join(' ')}' ;;`),
  )
  return `_verify_attestation() {
  local word previous command='' words='' i
  word=\${COMP_WORDS[COMP_CWORD]}
  previous=\${COMP_WORDS[COMP_CWORD-1]}
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$command \${COMP_WORDS[i]}" in
${all
  .filter(({ path }) => path.length > 0)
  .map(({ path }) => `      '${[path.slice(0, -1).join(' '), path.at(-1)].join(' ')}') command='${path.join(' ')}' ;;`)
  .join('\n')}
    esac
  done
  case "$command" in
${cases.join('\n')}
  esac
  case "$previous" in
    ${pathOptions(all).join('|')}) words='' ;;
  esac
  case "\${command:+$command }$previous" in
${values.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$word"))
  [[ \${#COMPREPLY[@]} -gt 0 || $word == -* ]] || COMPREPLY=($(compgen -f -- "$word"))
}
complete -o filenames -F _verify_attestation ${NAME}
`
}

/** zsh reads bash's completions; one script is one thing to keep right. */
function zsh(all: readonly CommandFacts[]): string {
  return `autoload -Uz bashcompinit && bashcompinit\n${bash(all)}`
}

function fish(all: readonly CommandFacts[]): string {
  const lines = all.flatMap((one) => {
    const when = conditionOf(one)
    return [
      ...one.commands.map(
        (name) => `complete -c ${NAME} ${when} -a ${name} -d ${quoted(descriptionOf(all, one, name))}`,
      ),
      ...one.options.map(({ name, description, choices, value, path }) => {
        const takes = value === '' ? '' : path ? ' -r -F' : choices.length > 0 ? ` -x -a '${choices.join(' ')}'` : ' -x'
        return `complete -c ${NAME} ${when} -l ${name.slice(2)}${takes} -d ${quoted(description)}`
      }),
    ]
  })
  return `${lines.join('\n')}\n`
}

function conditionOf({ path, commands }: CommandFacts): string {
  if (path.length === 0) return `-n 'not __fish_seen_subcommand_from ${commands.join(' ')}'`
  const seen = path.map((name) => `__fish_seen_subcommand_from ${name}`).join('; and ')
  const deeper = commands.length === 0 ? '' : `; and not __fish_seen_subcommand_from ${commands.join(' ')}`
  return `-n '${seen}${deeper}'`
}

function descriptionOf(all: readonly CommandFacts[], { path }: CommandFacts, name: string): string {
  return all.find((one) => one.path.join(' ') === [...path, name].join(' '))?.description ?? ''
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
