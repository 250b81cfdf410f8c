// Verifies a worker in this process, asks it one question through the seal, and checks the receipt of its answer.
import { readFileSync } from 'node:fs'
import OpenAI from 'openai'
import { connect, NotTrustedError } from 'subrosa/client'
import { parse } from 'yaml'

const [url, policyFile, question = 'What is the capital of France?'] = process.argv.slice(2)
try {
  const worker = await connect(url, { policy: parse(readFileSync(policyFile, 'utf8')) })
  console.error(`verified until ${worker.worker.validUntil.toISOString()}`)
  const openai = new OpenAI({ baseURL: worker.baseURL, fetch: worker.fetch, apiKey: 'unused' })
  const { data, response } = await openai.chat.completions
    .create({
      model: worker.worker.statement.model.id,
      messages: [{ role: 'user', content: question }],
      temperature: 0,
    })
    .withResponse()
  console.log(data.choices[0].message.content)
  const receipt = await worker.receipt(response)
  console.error(`receipt ${receipt.verdict}`)
} catch (error) {
  if (!(error instanceof NotTrustedError)) throw error
  console.error(`${error.message}\nchecks in the way: ${error.checks.join(', ')}`)
  process.exitCode = 1
}
