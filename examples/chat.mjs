// Streams an answer through a local `subrosa proxy`. OPENAI_BASE_URL and OPENAI_API_KEY are read by the package itself.
import OpenAI from 'openai'

const openai = new OpenAI()
const [model] = (await openai.models.list()).data
const stream = await openai.chat.completions.create({
  model: model.id,
  messages: [{ role: 'user', content: process.argv[2] ?? 'What is the capital of France?' }],
  temperature: 0,
  stream: true,
})
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? '')
process.stdout.write('\n')
