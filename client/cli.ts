#!/usr/bin/env node
/** `subrosa`: one name for every command; each is loaded only when it is asked for. */
import '../verifier/node-version.js'
import { tolerateClosedPipe } from '../verifier/closed-pipe.js'
import { runSubrosa } from './cli-run.js'

tolerateClosedPipe(process.stdout, process.stderr)
process.exitCode = await runSubrosa(process.argv, { stdout: process.stdout, stderr: process.stderr })
