// Teaches a model from a GGUF file to answer like a dictionary, and writes GGUF files: the adapter and the merged model.
import {
  attach,
  compiled,
  diskStorage,
  encodeLanguage,
  fromPretrained,
  generateChat,
  lora,
  readLanguageTask,
  saveGguf,
  saveGgufAdapter,
  train,
  trainingData,
} from 'peftjs';

const { MODEL = 'bartowski/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct-Q8_0.gguf', EPOCHS = '1' } = process.env;
const executor = compiled();

const model = await fromPretrained(MODEL, { task: 'causal-lm' }); // a path, or a file on the hub
const task = await readLanguageTask({
  train: 'data/chat-train.jsonl',
  dev: 'data/chat-dev.jsonl',
  storage: diskStorage(),
});
const data = encodeLanguage(task.train, model.tokenizer, { maxTokens: 128 });
const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
await train(peft, trainingData(data, { batchSize: 8, seed: 1 }), {
  executor,
  epochs: Number(EPOCHS),
  learningRate: 5e-4,
  onStep: ({ step, totalSteps, loss }) => console.log(`${step}/${totalSteps} loss ${loss.toFixed(3)}`),
});

await saveGgufAdapter(peft, 'adapter.gguf'); // to use with the file of the base model
await saveGguf(peft, 'merged.gguf', { dtype: 'q8' }); // to use on its own

const merged = await fromPretrained('merged.gguf', { task: 'causal-lm' }); // what Ollama will run
const messages = [{ role: 'user', content: 'What does "heron" mean?' }] as const;
console.log(JSON.stringify(await generateChat(merged, messages, { executor, maxNewTokens: 40 })));
