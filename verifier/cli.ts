#!/usr/bin/env node
/**
 * `verify-attestation`: re-does every check on a live worker, a saved bundle or raw evidence, and says why.
 * Exit status: 0 accepted, 1 rejected, 2 misuse, 3 malformed, 4 unavailable. On misuse nothing goes to standard output.
 */
import './node-version.js'
import { runVerifier } from './cli-verify.js'
import { tolerateClosedPipe } from './closed-pipe.js'

tolerateClosedPipe(process.stdout, process.stderr)
process.exitCode = await runVerifier(process.argv, { stdout: process.stdout, stderr: process.stderr })
