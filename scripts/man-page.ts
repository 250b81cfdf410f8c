/**
 * `node dist/scripts/man-page.js`: writes man/verify-attestation.1 from the commands as they are (man-pages(7), roff man
 * macros). A test compares the file with what this would write.
 */
import { writeFileSync } from 'node:fs'
import { PassThrough } from 'node:stream'
import { pathToFileURL } from 'node:url'
import { type CommandFacts, commandFacts, type OptionFacts } from '../verifier/cli-tree.js'
import { wholeProgram } from '../verifier/cli-verify.js'
import { toAscii } from '../verifier/text.js'
import { VERSION } from '../verifier/version.js'

const NAME = 'verify-attestation'

export async function manPage(): Promise<string> {
  const stdout = new PassThrough()
  const [program, ...commands] = commandFacts(await wholeProgram({ stdout, stderr: stdout }))
  if (program === undefined) throw new Error('there is no program')
  const lines = [
    `.TH VERIFY\\-ATTESTATION 1 "" "subrosa ${VERSION}" "User Commands"`,
    '.SH NAME',
    `${NAME} \\- check who can read a prompt before you send it`,
    '.SH SYNOPSIS',
    ...synopsis(program),
    ...commands.filter(({ commands: below, operands }) => below.length === 0 || operands.length > 0).flatMap(synopsis),
    '.SH DESCRIPTION',
    text(
      'Asks a worker for attestation evidence, or reads a saved bundle or a raw report of AMD SEV-SNP, Intel TDX or NVIDIA hardware, and holds it to a policy of yours, check by check. The answer says what was proven and what was not.',
    ),
    '.PP',
    text('Without a policy everything is strict and no software is known. What a policy leaves out stays strict.'),
    '.SH OPTIONS',
    ...program.options.flatMap(option),
    '.SH COMMANDS',
    ...commands.flatMap((command) => [
      `.SS ${text([...command.path, ...command.operands].join(' '))}`,
      text(`${command.description}.`),
      ...command.options.filter(({ name }) => !program.options.some((own) => own.name === name)).flatMap(option),
    ]),
    '.SH EXIT STATUS',
    ...(
      [
        ['0', 'accepted: every check passed, or was waived in so many words'],
        ['1', 'rejected: a required check failed'],
        ['2', 'misuse, or a policy that cannot be used; nothing on standard output'],
        ['3', 'malformed: the input is not what it must be'],
        ['4', 'unavailable: nothing failed, and something needed is not at hand'],
      ] as const
    ).flatMap(([code, meaning]) => ['.TP', `.B ${code}`, text(meaning)]),
    '.SH ENVIRONMENT',
    ...(
      [
        ['SUBROSA_CACHE', 'folder for endorsements that were fetched'],
        ['SUBROSA_PCCS', 'a cache of Intel’s collateral to ask instead of Intel'],
        ['SUBROSA_NVIDIA_RIM', 'a cache of NVIDIA’s manifests to ask instead of NVIDIA'],
        ['SUBROSA_NVIDIA_OCSP', 'a relay to NVIDIA’s OCSP responder'],
        ['NO_COLOR', 'when set, no colour'],
      ] as const
    ).flatMap(([name, meaning]) => ['.TP', `.B ${name}`, text(meaning)]),
    '.SH EXAMPLES',
    '.nf',
    text('verify-attestation https://gpu7.example.net --policy policy.yaml'),
    text('verify-attestation saved.bundle --offline --at 2026-11-02T10:00:00Z'),
    text('verify-attestation --explain snp.policy.debug'),
    '.fi',
  ]
  return `${lines.join('\n')}\n`
}

function synopsis({ path, operands }: CommandFacts): string[] {
  return [`.B ${text([NAME, ...path].join(' '))}`, text(`${operands.join(' ')} [options]`.trim()), '.br']
}

function option({ name, value, description, choices }: OptionFacts): string[] {
  const listed = choices.length === 0 ? '' : ` (${choices.join(', ')})`
  return ['.TP', `.B ${text(name)} ${text(value)}`.trimEnd(), text(`${description}${listed}`)]
}

/** ASCII, with hyphens that stay hyphens and no line that roff would take for a request. */
function text(words: string): string {
  const plain = toAscii(words).replaceAll('\\', '\\e').replaceAll('-', '\\-')
  return /^[.']/.test(plain) ? `\\&${plain}` : plain
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  writeFileSync('man/verify-attestation.1', await manPage())
}
