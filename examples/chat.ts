// Fine-tunes a small decoder to answer in the style of a dictionary, and asks it a question.
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

const model = await fromPretrained(MODEL, { task: 'causal-lm' });
const task = await readLanguageTask({
  train: 'data/chat-train.jsonl',
  dev: 'data/chat-dev.jsonl',
  storage: diskStorage(),
});
const data = encodeLanguage(task.train, model.tokenizer, { maxTokens: 128 }); // applies the model's chat template
const heldOut = causalEvaluation(encodeLanguage(task.dev, model.tokenizer, { maxTokens: 128 }), { batchSize: 8 });

const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
console.log('before', await evaluate(peft, heldOut, { executor }));
await train(peft, trainingData(data, { batchSize: 8, seed: 1 }), {
  executor,
  epochs: Number(EPOCHS),
  learningRate: 5e-4,
  onStep: ({ step, totalSteps, loss }) => console.log(`${step}/${totalSteps} loss ${loss.toFixed(3)}`),
});
console.log('after', await evaluate(peft, heldOut, { executor }));
await savePretrained(peft, 'dictionary');

const messages = [{ role: 'user', content: 'What does "heron" mean?' }] as const;
const answer = await generateChat(peft, messages, {
  executor,
  maxNewTokens: 40,
  onText: (piece) => process.stdout.write(piece), // streams the answer
});
console.log(`\n${JSON.stringify([...messages, answer])}`);
