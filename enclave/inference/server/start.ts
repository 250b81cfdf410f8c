/** A server on the package's own folder: what the statement says of the model is then true of what the server loads. */
import type { Engine } from '../engine.js'
import { checkModelFolder, type ModelPackage } from '../package.js'
import { expectModelOf } from './arguments.js'
import { parseServerConfig } from './config.js'
import { createServerEngine } from './engine.js'
import { launchServer } from './launch.js'

/**
 * Checks the folder whole, then launches the server on it. The folder must not change afterwards: in the image it is a
 * verity device. Of the package only tokenizer and template are kept. @throws EngineError.
 */
export async function startServerEngine(
  directory: string,
  config: unknown,
  simulated: boolean,
): Promise<{ readonly engine: Engine; readonly modelPackage: ModelPackage }> {
  const server = parseServerConfig(config, simulated)
  const modelPackage = await checkModelFolder(directory)
  expectModelOf(directory, modelPackage.manifest, server)
  const engine = await createServerEngine(modelPackage, await launchServer(server, { simulated }))
  return { engine, modelPackage }
}
