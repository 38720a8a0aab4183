// Tunes the ONNX model that transformers.js serves, and writes the folder that it serves next.
import { fromOnnx, saveOnnxGraph } from '@peftjs/onnx';
import { attach, compiled, describeParameters, evaluate, lora, mergeAndUnload, train } from 'peftjs';
import { EPOCHS, reviews } from './reviews.js';

const { MODEL = 'Xenova/all-MiniLM-L6-v2' } = process.env; // a folder, an .onnx file or a hub id
const executor = compiled();
const model = await fromOnnx(MODEL, { labels: ['bad', 'good'] }); // a new head on the mean of its hidden states
const data = await reviews(model);

const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
console.log(describeParameters(peft));
await train(peft, data.train, {
  executor,
  epochs: Number(EPOCHS),
  selection: { data: data.selection },
  onEvaluation: ({ step, metrics }) => {
    console.log(`step ${step}`, metrics);
  },
});
console.log('after', await evaluate(peft, data.reported, { executor }));

const { changed, rounding } = await saveOnnxGraph(mergeAndUnload(peft), 'web');
console.log(`${changed.length} tensors of the graph changed, rounded by at most ${rounding}`);
