// Teaches a small decoder to look words up with a tool, and lets it look one up that it was not taught.
import { readFile } from 'node:fs/promises';
import {
  attach,
  compiled,
  encodeLanguage,
  fromPretrained,
  generateChat,
  languageSet,
  lora,
  savePretrained,
  train,
  trainingData,
  type ChatMessage,
} from 'peftjs';
import { callIn, conversation, template, tool } from './dictionary-tool.js';

const { MODEL = 'HuggingFaceTB/SmolLM2-135M-Instruct', EPOCHS = '1' } = process.env;
const executor = compiled();

/** Reads words with their definitions. */
async function wordsOf(part: 'train' | 'dev'): Promise<[word: string, definition: string][]> {
  const lines = (await readFile(`data/chat-${part}.jsonl`, 'utf8')).trim().split('\n');
  return lines.map((line) => {
    const [question, answer] = (JSON.parse(line) as { messages: { content: string }[] }).messages;
    return [/"(.*)"/.exec(question?.content ?? '')?.[1] ?? '', (answer?.content ?? '').slice(0, -1)];
  });
}

const taught = (await wordsOf('train')).filter((_, index) => index % 10 === 0);
const rows = taught.map(([word, definition]) => conversation(word, definition));

const model = await fromPretrained(MODEL, { task: 'causal-lm', dtype: 'q8' });
const data = encodeLanguage(await languageSet('tools', rows), model.tokenizer, { maxTokens: 512, template });
const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
await train(peft, trainingData(data, { batchSize: 2, seed: 1 }), {
  executor,
  epochs: Number(EPOCHS),
  learningRate: 1e-3,
  onStep: ({ step, totalSteps, loss }) => console.log(`${step}/${totalSteps} loss ${loss.toFixed(3)}`),
});
await savePretrained(peft, 'looks-up');

const others = await wordsOf('dev');
const dictionary = new Map(others);
const messages: ChatMessage[] = [{ role: 'user', content: `What does "${others[0]?.[0]}" mean?` }];
const options = { executor, template, tools: [tool], maxNewTokens: 60 };
const answer = await generateChat(peft, messages, options);
const call = callIn(answer.content);
if (call) {
  const { word = '' } = (call.function.arguments ?? {}) as { word?: string };
  const found = dictionary.get(word) ?? 'not in the dictionary';
  messages.push({ role: 'assistant', tool_calls: [call] }, { role: 'tool', content: found });
  messages.push(await generateChat(peft, messages, options));
} else {
  messages.push(answer);
}
for (const message of messages) console.log(JSON.stringify(message));
