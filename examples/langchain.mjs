// LangChain through a local `subrosa proxy`: a prompt template, a model and a parser, streamed.
import { StringOutputParser } from '@langchain/core/output_parsers'
import { ChatPromptTemplate } from '@langchain/core/prompts'
import { ChatOpenAI } from '@langchain/openai'

const { OPENAI_BASE_URL: baseURL, SUBROSA_MODEL: model } = process.env
const chain = ChatPromptTemplate.fromTemplate('What is the capital of {country}?')
  .pipe(new ChatOpenAI({ model, temperature: 0, configuration: { baseURL } }))
  .pipe(new StringOutputParser())
for await (const piece of await chain.stream({ country: process.argv[2] ?? 'France' })) process.stdout.write(piece)
process.stdout.write('\n')
