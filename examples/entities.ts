// Trains a tagger on a CoNLL file, and finds places and people in your own sentences.
import {
  attach,
  compiled,
  diskStorage,
  encodeRows,
  evaluate,
  evaluationData,
  fromPretrained,
  lora,
  pipeline,
  readTask,
  savePretrained,
  train,
  trainingData,
  type DataSet,
} from 'peftjs';

const { MODEL = 'sentence-transformers/all-MiniLM-L6-v2', EPOCHS = '2' } = process.env;
const executor = compiled();

const task = await readTask({ train: 'data/names-train.conll', dev: 'data/names-dev.conll', storage: diskStorage() });
const model = await fromPretrained(MODEL, { task: 'token-classification', labels: task.classes });
const encode = (rows: DataSet) => encodeRows(rows, model.tokenizer, { maxTokens: 64 });

const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
await train(peft, trainingData(encode(task.train), { batchSize: 16, seed: 1 }), {
  executor,
  epochs: Number(EPOCHS),
});
console.log(await evaluate(peft, evaluationData(encode(task.dev), { batchSize: 32 }), { executor }));
await savePretrained(peft, 'name-tagger');

const tag = await pipeline('token-classification', 'name-tagger', { executor });
const text = 'The Danube flows from Germany through Vienna, where Mozart lived, to the Black Sea.';
for (const { entity_group, score, start, end } of await tag(text, { aggregationStrategy: 'words' })) {
  console.log(entity_group, score.toFixed(2), text.slice(start, end));
}
await tag.dispose();
