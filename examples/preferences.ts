// Teaches a small chat model to prefer polite answers, from pairs of a better and a worse one.
import {
  attach,
  compiled,
  diskStorage,
  dpo,
  encodePreferences,
  evaluate,
  fromPretrained,
  generateChat,
  lora,
  preferenceEvaluation,
  readLanguageTask,
  savePretrained,
  sliceCausal,
  train,
  trainingData,
  type LanguageSet,
} from 'peftjs';

const { MODEL = 'HuggingFaceTB/SmolLM2-135M-Instruct', PAIRS = '400', SEED = '1' } = process.env;
const executor = compiled();
const seed = Number(SEED);

const model = await fromPretrained(MODEL, { task: 'causal-lm' });
const task = await readLanguageTask({
  train: 'data/preferences-train.jsonl',
  dev: 'data/preferences-dev.jsonl',
  storage: diskStorage(),
});
const encode = (set: LanguageSet) => encodePreferences(set, model.tokenizer, { maxTokens: 96 });
const pairs = sliceCausal(encode(task.train), Number(PAIRS), 1);
const heldOut = preferenceEvaluation(encode(task.dev), { batchSize: 8 });

const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed });
console.log('before', await evaluate(peft, heldOut, { executor }));
await train(peft, trainingData(pairs, { batchSize: 8, seed }), {
  executor,
  loss: dpo({ beta: 0.1 }), // or orpo(), which needs no reference
  epochs: 1,
  learningRate: 5e-4,
  onStep: ({ step, totalSteps, loss }) => console.log(`${step}/${totalSteps} loss ${loss.toFixed(3)}`),
});
console.log('after', await evaluate(peft, heldOut, { executor }));
await savePretrained(peft, 'polite');

const messages = [
  { role: 'system', content: 'You explain words.' },
  { role: 'user', content: 'What does "heron" mean?' },
] as const;
console.log((await generateChat(peft, messages, { executor, maxNewTokens: 40 })).content);
