// Fine-tunes a small decoder to answer in the style of a dictionary, and asks it the same before and after.
import {
  attach,
  causalEvaluation,
  compiled,
  diskStorage,
  encodeLanguage,
  evaluate,
  fromPretrained,
  generateChat,
  lora,
  readLanguageTask,
  savePretrained,
  train,
  trainingData,
} from 'peftjs';

const { MODEL = 'HuggingFaceTB/SmolLM2-135M-Instruct', EPOCHS = '1' } = process.env;
const executor = compiled();

const model = await fromPretrained(MODEL, { task: 'causal-lm', dtype: 'q8' }); // the frozen weights in 8 bits
const task = await readLanguageTask({
  train: 'data/chat-train.jsonl',
  dev: 'data/chat-dev.jsonl',
  storage: diskStorage(),
});
const data = encodeLanguage(task.train, model.tokenizer, { maxTokens: 128 }); // applies the model's chat template
const heldOut = causalEvaluation(encodeLanguage(task.dev, model.tokenizer, { maxTokens: 128 }), { batchSize: 8 });
const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });

/** Prints the perplexity of the held-out answers, and what the model answers now. */
async function examine(when: string) {
  console.log(when, await evaluate(peft, heldOut, { executor }));
  for (const content of ['What does "heron" mean?', 'What does "trowel" mean?', 'What is the capital of France?']) {
    const messages = [{ role: 'user', content }];
    const answer = await generateChat(peft, messages, { executor, maxNewTokens: 40 });
    console.log(JSON.stringify([...messages, answer]));
  }
}

await examine('before');
await train(peft, trainingData(data, { batchSize: 8, seed: 1 }), {
  executor,
  epochs: Number(EPOCHS),
  learningRate: 5e-4,
  schedule: 'constant',
  onStep: ({ step, totalSteps, loss }) => console.log(`${step}/${totalSteps} loss ${loss.toFixed(3)}`),
});
await examine('after');
await savePretrained(peft, 'dictionary');
