// Trains and classifies in the background, so that the page stays responsive.
// It receives { kind: 'train', table }, { kind: 'stop' } and { kind: 'classify', text }; `tell` shows what it answers.
import {
  attach,
  compiled,
  encodeRows,
  fromPretrained,
  lora,
  pipeline,
  readTable,
  savePretrained,
  train,
  trainingData,
} from 'peftjs';
import { files } from './files.js';

const EPOCHS = 12;
const ADAPTER = 'my-adapter'; // in IndexedDB

let stopper; // of the training that runs: there is one at a time
let executor; // one for the page: opened when it is first needed
let classifier; // a promise, opened again after a training

const tell = (kind, more = {}) => self.postMessage({ kind, ...more });

self.addEventListener('message', async ({ data: { kind, table, text } }) => {
  try {
    if (kind === 'stop') stopper?.abort();
    if (kind === 'train' && !stopper) await learn(table);
    if (kind === 'classify') await answer(text);
  } catch (error) {
    if (error.name === 'AbortError') tell('stopped');
    else tell(kind === 'train' ? 'failed' : 'refused', { reason: error.message });
  }
});

async function learn(table) {
  stopper = new AbortController();
  tell('loading');
  try {
    await trainAndSave(table, stopper.signal);
  } finally {
    stopper = undefined;
  }
  tell('trained');
}

async function trainAndSave(table, signal) {
  const rows = await readTable(new TextEncoder().encode(table), { path: 'data.tsv' });
  const model = await fromPretrained('model', { labels: rows.classes, storage: files });
  const data = trainingData(encodeRows(rows, model.tokenizer, { maxTokens: 64 }), { batchSize: 16, seed: 1 });
  const peft = attach(model, lora({ r: 4, targetModules: 'all-linear' }), { seed: 1 });
  await train(peft, data, {
    executor: await opened(),
    epochs: EPOCHS,
    signal,
    onStep: ({ step, totalSteps, loss }) => tell('step', { loss, share: step / totalSteps }),
  });
  await savePretrained(peft, ADAPTER, { storage: files });
  const old = classifier;
  classifier = undefined;
  await old?.then((classify) => classify.dispose()).catch(() => undefined); // it may not have opened
}

async function answer(text) {
  if (!(await files.exists(`${ADAPTER}/adapter_config.json`))) throw new Error('Train first: there is no adapter yet.');
  classifier ??= openClassifier();
  const classify = await classifier;
  tell('answer', { text, labels: await classify(text) });
}

async function openClassifier() {
  try {
    return await pipeline('text-classification', ADAPTER, { storage: files, executor: await opened() });
  } catch (error) {
    classifier = undefined; // the next question tries again
    throw error;
  }
}

async function opened() {
  if (executor) return executor;
  const runtime = await import('onnxruntime-web/wasm');
  runtime.env.wasm.wasmPaths = '/assets/runtime/';
  return (executor = compiled({ runtime })); // all cores, on a page with the headers COOP and COEP
}
