// Fine-tunes your own model, from a folder, an npm package or the Hugging Face hub.
import { attach, describeParameters, evaluate, savePretrained, train } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { EPOCHS, reviews } from './reviews.js';

const [source = 'google-bert/bert-base-uncased'] = process.argv.slice(2);
const model = await fromPretrained(source, {
  numLabels: 2,
  progressCallback: (event) => event.status === 'done' && console.log('downloaded', event.file),
});
for (const { path, role, inFeatures, outFeatures } of model.sites)
  console.log(path, role, `${inFeatures} × ${outFeatures}`);
console.log('default target modules:', model.defaultTargetModules);

const executor = compiled();
const data = await reviews(model);
const peft = attach(model, lora({ r: 8, targetModules: ['query', 'value'] }), { seed: 1 });
console.log(describeParameters(peft));
await train(peft, data.train, { executor, epochs: Number(EPOCHS), learningRate: 5e-4 });
console.log(await evaluate(peft, data.reported, { executor }));
await savePretrained(peft, 'my-adapter'); // for Hugging Face PEFT: PeftModel.from_pretrained(model, 'my-adapter')
