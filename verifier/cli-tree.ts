/** A command line as data: what commander knows of commands, options and their choices, for completions and the manual. */
import type { Command, Option } from 'commander'

export interface CommandFacts {
  /** Names from the program down, the program's own left out: `['gpu', 'rim']`; empty for the program itself. */
  readonly path: readonly string[]
  readonly description: string
  /** As the usage line has them: `<file...>`. */
  readonly operands: readonly string[]
  readonly options: readonly OptionFacts[]
  readonly commands: readonly string[]
}

export interface OptionFacts {
  /** `--format`. */
  readonly name: string
  /** `<format>`, or nothing for a switch. */
  readonly value: string
  readonly description: string
  /** What it may be, where that is known. */
  readonly choices: readonly string[]
  /** Takes the name of a file or folder. */
  readonly path: boolean
}

/** The program and everything under it, in the order it is registered. */
export function commandFacts(program: Command, path: readonly string[] = []): readonly CommandFacts[] {
  const own: CommandFacts = {
    path,
    description: program.description(),
    operands: program.registeredArguments.map((argument) => {
      const name = argument.variadic ? `${argument.name()}...` : argument.name()
      return argument.required ? `<${name}>` : `[${name}]`
    }),
    options: program.options.filter(({ hidden }) => !hidden).map(optionFacts),
    commands: program.commands.map((command) => command.name()),
  }
  return [own, ...program.commands.flatMap((command) => commandFacts(command, [...path, command.name()]))]
}

function optionFacts(option: Option): OptionFacts {
  const [, value = ''] = /^\S+ (.+)$/.exec(option.flags) ?? []
  return {
    name: option.long ?? option.flags,
    value,
    description: option.description,
    choices: option.argChoices ?? [],
    path: /<(file|path|folder)/.test(value),
  }
}
