// Trains a cross-encoder on pairs of a definition and a word, and ranks candidate words with it.
import {
  attach,
  compiled,
  diskStorage,
  encodeRows,
  fromPretrained,
  lora,
  pipeline,
  readTask,
  retrievalMetrics,
  savePretrained,
  train,
  trainingData,
  type Row,
} from 'peftjs';

const { MODEL = 'sentence-transformers/all-MiniLM-L6-v2', EPOCHS = '3' } = process.env;
const executor = compiled();

const task = await readTask({ train: 'data/choices-train.tsv', dev: 'data/choices-dev.tsv', storage: diskStorage() });
const model = await fromPretrained(MODEL, { labels: task.classes }); // '0' for a wrong word, '1' for the right one
const data = encodeRows(task.train, model.tokenizer, { maxTokens: 64 });

const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
await train(peft, trainingData(data, { batchSize: 16, seed: 1 }), {
  executor,
  epochs: Number(EPOCHS),
});
await savePretrained(peft, 'reranker');

const rerank = await pipeline('text-ranking', 'reranker', { executor });
const rows = task.dev.rows as readonly Row[]; // four words per definition, the right one first
const definitions = rows.filter((_, row) => row % 4 === 0);
const rankings = await Promise.all(
  definitions.map(async ({ text }, place) => {
    const words = rows.slice(4 * place, 4 * place + 4).map(({ pair = '' }) => pair);
    return { ranked: (await rerank(text, words)).map(({ index }) => index), relevant: [0] };
  }),
);
console.log(retrievalMetrics(rankings));

const words = ['egret', 'thistle', 'heron', 'wren', 'anvil'];
const best = await rerank('grey or white wading bird with long neck and long legs', words, { topK: 3 });
for (const { index, score } of best) console.log(score.toFixed(3), words[index]);
await rerank.dispose();
