// Code blocks of the page on scores.
import { compiled, evaluate, fitTemperature, pipeline, savePretrained } from 'peftjs';
import { attach, train } from '@peftjs/core';
import { lora } from '@peftjs/lora';
import { createDataSet, encodeRows, evaluationData, trainingData } from '@peftjs/tasks';
import { expect, it } from 'vitest';
import { sentences, smallBert } from './given.js';
import { heard, useFolder } from './surroundings.js';

useFolder();
const executor = compiled({ threads: 1 });

it('scores become probabilities, of which a threshold keeps the larger ones', async () => {
  const model = await smallBert();
  const peft = attach(model, lora({ r: 4 }), { seed: 1 });
  const encoded = async (wrong: number) => {
    const rows = sentences.map((row, at) => (at < wrong ? { ...row, label: 1 - row.label } : row));
    const set = await createDataSet({ name: 'soups', kind: 'classification', classes: ['bad', 'good'], rows });
    return encodeRows(set, model.tokenizer, { maxTokens: 16 });
  };
  const training = trainingData(await encoded(0), { batchSize: 8, seed: 1 });
  await train(peft, training, { executor, epochs: 20, learningRate: 0.01 });
  const [heldOut, reported] = [
    evaluationData(await encoded(3), { batchSize: 8 }),
    evaluationData(await encoded(4), { batchSize: 8 }),
  ];
  const log = heard('log');
  // #region fit
  const before = await evaluate(peft, reported, { executor });
  const temperature = await fitTemperature(peft, heldOut, { executor }); // rows that it was not trained on
  const after = await evaluate(peft, reported, { executor });
  console.log(temperature, before.expectedCalibrationError, after.expectedCalibrationError); // 3.35, 0.089, 0.034
  await savePretrained(peft, 'my-adapter'); // with its temperature
  // #endregion fit
  const [[found = 0, error = 0, scaled = 1]] = log.mock.calls as [number[]];
  expect(found).toBeGreaterThan(1);
  expect(scaled).toBeLessThan(error / 2);
  const text = sentences[1]?.text ?? '';
  {
    // #region threshold
    const classify = await pipeline('text-classification', 'my-adapter');
    const [answer] = await classify(text, { threshold: 0.9 });
    const label = answer?.label ?? 'unsure'; // no label has a score of 0.9: ask a person
    await classify.dispose();
    // #endregion threshold
    expect(label).toBe('unsure'); // it is right in 13 of 16 rows
  }
});
