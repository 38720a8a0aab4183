// Code blocks of the page on training, in order.
import { activeAdapter, adamW, attach, memoryStorage, train, type EvaluationData } from '@peftjs/core';
import { crossEntropy } from '@peftjs/core/losses';
import { readSnapshot, writeSnapshot, type StepEvent } from '@peftjs/core/runtime';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { appendFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { jsonLines } from 'peftjs';
import { trainingProgress } from 'peftjs/progress';
import { describe, expect, it } from 'vitest';
import { kept } from '../../packages/cli/test/streams.js';
import { folderOfTest } from '../../tools/vitest/temporary-folder.js';
import { batchesFor, smallBert } from './given.js';

const executor = compiled({ threads: 1 });

/** A small BERT with an adapter, and its training and evaluation data: two batches per epoch. */
async function adapted() {
  const model = await smallBert();
  const { train: data, validation } = await batchesFor(model);
  return { model, peft: attach(model, lora({ r: 2 }), { seed: 1 }), data, validation };
}

/** Data whose accuracy is best after the second evaluation. */
const peaking = (data: EvaluationData): EvaluationData => {
  const values = [0.5, 0.9, 0.901, 0.8, 0.7];
  return { ...data, score: () => ({ accuracy: values.shift() ?? 0 }) };
};

describe('training', () => {
  it('trains an adapted model on data', async () => {
    const { model, data } = await adapted();
    // #region first
    const peft = attach(model, lora({ r: 2 }), { seed: 1 });
    await train(peft, data, { executor: compiled(), epochs: 3 });
    // #endregion first
    const trained = Object.entries(activeAdapter(peft).values).filter(([name]) => name.endsWith('loraB')); // 0 before
    expect(trained.length).toBeGreaterThan(0);
    expect(trained.every(([, { data: numbers }]) => numbers.some((value) => value !== 0))).toBe(true);
  });

  it('takes the rates of the method and of a new head where none are named', async () => {
    const { model, data, validation } = await adapted();
    // #region choose
    const peft = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
    await train(peft, data, { executor: compiled(), epochs: 5, selection: { data: validation } });
    // #endregion choose
    const named = attach(model, lora({ r: 8, targetModules: 'all-linear' }), { seed: 1 });
    const rates = { learningRate: 1e-3, learningRates: { head: 2e-3 } };
    await train(named, data, { executor: compiled(), epochs: 5, selection: { data: validation }, ...rates });
    expect(activeAdapter(peft).values).toEqual(activeAdapter(named).values);
  });

  it('has options for the training step', async () => {
    const { peft, data } = await adapted();
    const rates: number[] = [];
    const onStep = ({ learningRate }: StepEvent) => rates.push(learningRate);
    // #region steps
    await train(peft, data, {
      executor,
      epochs: 10, // passes over the data
      gradientAccumulationSteps: 2, // batches per step
      learningRate: 1e-3, // the peak learning rate
      learningRates: { head: 5e-4 }, // the head has a different peak
      warmupRatio: 0.2, // rates rise during the first fifth of the steps,
      schedule: 'cosine', // then fall along half a cosine
      optimizer: adamW({ weightDecay: 0.01 }),
      loss: crossEntropy({ classWeights: [1, 4] }), // a row of the second class counts four times
      dropout: 'config', // also in the frozen network
      gradientCheckpointing: true, // less memory, longer steps
      clipNorm: 0.5, // the maximum norm of all gradients together,
      unclippedGroups: ['head'], // excluding the head's
      onStep,
    });
    // #endregion steps
    expect(rates).toHaveLength(10);
    expect(rates.slice(0, 3)).toEqual([1e-3 / 3, 2e-3 / 3, 1e-3]);
    expect(rates.at(-1)).toBeCloseTo(0.5e-3 * (1 + Math.cos((Math.PI * 7) / 8)), 12);
  });

  it('selects the best checkpoint', async () => {
    const { peft, data, validation } = await adapted();
    // #region selection
    const { selected, last, totalSteps } = await train(peft, data, {
      executor,
      epochs: 10,
      finalRatio: 0.5, // candidates come from the second half of the steps, where budgets are met
      selection: { data: validation, evaluations: 5 }, // five candidates
    });
    // #endregion selection
    expect([last.step, totalSteps]).toEqual([20, 20]);
    expect([12, 14, 16, 18, 20]).toContain(selected.step);
    expect(activeAdapter(peft).values).toEqual(selected.values);
  });

  it('is evaluated during training', async () => {
    const { peft, data, validation } = await adapted();
    const curve: [number, number | undefined][] = [];
    // #region evaluate
    await train(peft, data, {
      executor,
      epochs: 3,
      selection: { data: validation },
      evaluateEvery: { epochs: 1 }, // or a number of steps
      onEvaluation: ({ step, metrics }) => curve.push([step, metrics.accuracy]),
    });
    // #endregion evaluate
    expect(curve.map(([step]) => step)).toEqual([2, 4, 6]);
    expect(curve.every(([, accuracy = NaN]) => accuracy >= 0 && accuracy <= 1)).toBe(true);
  });

  it('stops early', async () => {
    const { peft, data, validation: whole } = await adapted();
    const validation = peaking(whole);
    // #region early
    const { stoppedEarly, selected, last } = await train(peft, data, {
      executor,
      epochs: 50, // at most
      selection: { data: validation },
      evaluateEvery: { epochs: 1 },
      earlyStopping: { patience: 3, metric: 'accuracy', minDelta: 0.005 },
    });
    // #endregion early
    expect({ stoppedEarly, selected: selected.step, last: last.step }).toEqual({
      stoppedEarly: true,
      selected: 6,
      last: 10,
    });
  });

  it('is stopped and resumed', async () => {
    const storage = memoryStorage();
    /** Runs the page's program. @param stopAfter the step after which to stop it */
    const program = async (stopAfter?: number) => {
      const { peft, data } = await adapted();
      const taken: number[] = [];
      const onStep = ({ step }: StepEvent) => {
        taken.push(step);
        if (step === stopAfter) stop.abort();
      };
      // #region resume
      const file = 'run.safetensors';
      const begun = await storage.exists(file);
      const stop = new AbortController();
      process.once('SIGINT', () => stop.abort()); // Ctrl-C

      await train(peft, data, {
        executor,
        epochs: 3,
        signal: stop.signal, // stops after the current step, with a last snapshot
        saveEvery: 2, // steps between snapshots, or { epochs: 1 }
        onSnapshot: (snapshot) => storage.write(file, writeSnapshot(snapshot)),
        resume: begun ? await readSnapshot(await storage.read(file)) : null,
        onStep,
      });
      // #endregion resume
      return { taken, values: activeAdapter(peft).values };
    };
    const { values } = await program();
    storage.files.clear();
    await expect(program(3)).rejects.toThrow(/abort/);
    expect(await program()).toEqual({ taken: [4, 5, 6], values });
  });

  it('prints progress to a terminal and a file', async () => {
    const { peft, data, validation } = await adapted();
    const events = join(folderOfTest(), 'events.jsonl');
    const { stream, text } = kept(true);
    // #region watch
    const progress = trainingProgress({ name: 'reviews', stream }); // stream defaults to process.stderr
    const log = jsonLines((line) => appendFile(events, line));
    await train(peft, data, {
      executor,
      epochs: 3,
      selection: { data: validation },
      async onStep(event) {
        progress.onStep(event);
        await log.onStep(event);
      },
      onEvaluating: progress.onEvaluating,
      async onEvaluation(event) {
        progress.onEvaluation(event);
        await log.onEvaluation(event);
      },
    });
    // #endregion watch
    const lines = (await readFile(events, 'utf8')).trimEnd().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as { event: string }).event)).toEqual([
      ...Array<string>(6).fill('step'),
      'evaluation',
    ]);
    expect(stripVTControlCharacters(text())).toMatch(/^reviews .* 100 % {2}epoch 3\/3 {2}loss .* {2}accuracy /m);
  });
});

it('the page has an example of every option', async () => {
  const { peft, data } = await adapted();
  const unknown: object = { everyOption: true };
  const refusing = train(peft, data, { executor, epochs: 1, learningRate: 1, ...unknown });
  const refusal = await refusing.then(() => '', String);
  const options = /known are (.*)$/.exec(refusal)?.[1]?.split(', ') ?? [];
  const page = await readFile(new URL('../../docs/reference/training.md', import.meta.url), 'utf8');
  const blocks = [...page.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, code = '']) => code).join('\n');
  expect(options).toContain('earlyStopping');
  expect(options.filter((name) => !new RegExp(`\\b${name}\\b[,:]`).test(blocks))).toEqual([]);
});
