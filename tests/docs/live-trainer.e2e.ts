import { loadPretrained, memoryStorage } from '@peftjs/core';
import { EngineError } from '@peftjs/core/method';
import { adalora } from '@peftjs/adalora';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { fromPretrained } from '@peftjs/models';
import { unzipSync } from 'fflate';
import { describe, expect, it } from 'vitest';
import type { FromWorker, MethodName, TrainingRequest } from '../../docs/live/messages.js';
import { openLearner } from '../../docs/live/worker/learner.js';
import { prepareLesson, readSentences } from '../../docs/live/worker/lesson.js';
import { liveTrainer, type Surroundings } from '../../docs/live/worker/live-trainer.js';
import { bertInMemory } from '../models/bert-tiny.js';

const executor = compiled({ threads: 1 });
const loadModel = (labels: readonly string[]) => fromPretrained('bert', { labels, storage: bertInMemory() });
const here: Surroundings = {
  openDevice: () => Promise.resolve({ backend: 'wasm', threads: 1, notes: [], executor }),
  loadModel,
};

const nouns = ['soup', 'phone', 'film', 'waiter', 'battery', 'plot', 'room', 'case'];
const lines = nouns.flatMap((noun) => [`good\tthe ${noun} is great`, `bad\tthe ${noun} is awful`]);
const table = ['label\ttext', ...lines].join('\n');
const request: TrainingRequest = {
  method: 'sora',
  epochs: 3,
  seed: 1,
  threshold: 0,
  sentences: { train: table, heldOut: table },
};

/** A trainer, all its messages, and a callback for messages of a kind. */
function trainerWith(surroundings = here) {
  const messages: FromWorker[] = [];
  const reactions = new Map<FromWorker['kind'], () => void>();
  const handle = liveTrainer(surroundings, (message) => {
    messages.push(message);
    reactions.get(message.kind)?.();
  });
  return {
    handle,
    messages,
    kinds: () => messages.map(({ kind }) => kind),
    on: (kind: FromWorker['kind'], react: () => void) => reactions.set(kind, react),
    all: <K extends FromWorker['kind']>(kind: K) =>
      messages.filter((message): message is Extract<FromWorker, { kind: K }> => message.kind === kind),
  };
}

describe('the trainer of the live page', () => {
  it('trains a head, then an adapter, and reports progress', async () => {
    const trainer = trainerWith();
    await trainer.handle({ kind: 'train', ...request });
    expect([...new Set(trainer.kinds())]).toEqual(['device', 'preparing', 'frozen', 'progress', 'scores', 'ended']);
    expect(trainer.all('progress').map(({ step, totalSteps }) => [step, totalSteps])).toEqual([
      [1, 3],
      [2, 3],
      [3, 3],
    ]);
    expect(trainer.all('ended')).toEqual([{ kind: 'ended', how: 'finished' }]);
    expect(trainer.all('scores').at(-1)?.step).toBe(3);
    const again = trainerWith();
    await again.handle({ kind: 'train', ...request });
    const losses = (which: typeof trainer) => which.all('progress').map(({ loss }) => loss);
    expect(losses(again)).toEqual(losses(trainer));
  });

  it('lets SoRA choose its size, and reports every stage and the choice', async () => {
    const trainer = trainerWith();
    await trainer.handle({ kind: 'train', ...request, method: 'sora-auto' });
    const sizes = trainer.all('size');
    expect(sizes[0]).toMatchObject({ memorization: 100, generalization: 100 });
    const [choice] = trainer.all('chosen');
    expect(sizes.map(({ parameters }) => parameters)).toContain(choice?.parameters);
    expect(trainer.all('progress').at(-1)?.parameters).toBe(choice?.parameters);
    expect(choice?.reason).toMatch(/parameters/);
  });

  it('moves the threshold during training: ranks are pruned at once', async () => {
    const trainer = trainerWith();
    trainer.on('progress', () => void trainer.handle({ kind: 'threshold', threshold: 10 }));
    await trainer.handle({ kind: 'train', ...request });
    const alive = trainer
      .all('progress')
      .map(({ modules }) => modules.flatMap(({ sizes }) => sizes.filter((size) => size > 0)).length);
    expect(alive[0]).toBeGreaterThan(0);
    expect(alive.slice(1)).toEqual([0, 0]);
    expect(trainer.all('progress').at(-1)?.parameters).toBe(64); // a file needs a module: one rank of zeros
    await trainer.handle({ kind: 'save' });
    expect(trainer.all('adapter')).toHaveLength(1);
  });

  it.each<MethodName>(['sora', 'adalora', 'lora'])(
    'predicts before and after training, and packs a %s adapter that predicts the same elsewhere',
    async (method) => {
      const trainer = trainerWith();
      await trainer.handle({ kind: 'train', ...request, method });
      const text = 'the soup is <b>great</b>';
      await trainer.handle({ kind: 'predict', text });
      await trainer.handle({ kind: 'save' });
      const [prediction] = trainer.all('prediction');
      expect(prediction).toMatchObject({ text, classes: ['bad', 'good'] });
      expect(prediction?.before.reduce((sum, share) => sum + share)).toBeCloseTo(1);

      const [adapter] = trainer.all('adapter');
      expect(adapter?.name).toBe(`${method}-adapter.zip`);
      const files = Object.entries(unzipSync(adapter?.zip ?? new Uint8Array()));
      const storage = memoryStorage(new Map(files.map(([name, bytes]) => [`adapter/${name}`, bytes])));
      const model = await loadModel(['bad', 'good']);
      const learner = openLearner(
        await loadPretrained(model, 'adapter', { methods: [lora, adalora], storage }),
        executor,
      );
      const question = prepareLesson(await readSentences(request.sentences), model, 1).question(text);
      const elsewhere = await learner.probabilities(question);
      expect(Math.abs((elsewhere[0] ?? NaN) - (prediction?.after?.[0] ?? NaN))).toBeLessThan(1e-5);
    },
  );

  it('stops, keeps the trained values, still predicts and saves, and trains again', async () => {
    const trainer = trainerWith();
    trainer.on('progress', () => void trainer.handle({ kind: 'stop' }));
    await trainer.handle({ kind: 'train', ...request, epochs: 50 });
    expect(trainer.all('ended')).toEqual([{ kind: 'ended', how: 'stopped' }]);
    expect(trainer.all('progress').length).toBeLessThan(5);
    await trainer.handle({ kind: 'save' });
    expect(trainer.all('adapter')).toHaveLength(1);
    trainer.on('progress', () => void trainer.handle({ kind: 'predict', text: 'the film is great' }));
    await trainer.handle({ kind: 'train', ...request });
    expect(trainer.all('ended').at(-1)).toEqual({ kind: 'ended', how: 'finished' });
    expect(trainer.all('prediction').length).toBeGreaterThan(1);
  });

  it('starts a training that is requested during another one as soon as that has stopped', async () => {
    const trainer = trainerWith();
    const first = trainer.handle({ kind: 'train', ...request, epochs: 50 });
    await trainer.handle({ kind: 'train', ...request, method: 'lora' });
    await first;
    expect(trainer.all('ended').map(({ how }) => how)).toEqual(['stopped', 'finished']);
  });

  it.each([
    ['', 'training sentences: expected text, got an empty file'],
    ['label\ttext\ngood\tyes', 'training sentences: expected at least two different labels, got only "good"'],
    ['label\ttext\ngood\tyes\nbad', 'training sentences:3: expected 2 cells as in the header, got 1'],
    ['<script>alert(1)</script>', 'training sentences:1: expected the columns "label" and "text"'],
  ])('rejects %j with a one-line message', async (train, reason) => {
    const trainer = trainerWith();
    await trainer.handle({ kind: 'train', ...request, sentences: { train, heldOut: table } });
    expect(trainer.kinds()).toEqual(['failed']);
    expect(trainer.all('failed')[0]?.reason).toContain(reason);
  });

  it('stops while the model is loading', async () => {
    const stopped = (_: readonly string[], signal: AbortSignal): Promise<never> =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error));
        void trainer.handle({ kind: 'stop' });
      });
    const trainer = trainerWith({ ...here, loadModel: stopped });
    await trainer.handle({ kind: 'train', ...request });
    expect(trainer.all('ended')).toEqual([{ kind: 'ended', how: 'stopped' }]);
  });

  it('says why it cannot predict', async () => {
    const trainer = trainerWith();
    await trainer.handle({ kind: 'predict', text: 'the soup' });
    expect(trainer.all('unpredictable')[0]?.reason).toBe('Train first: there is no model yet.');
  });

  it('reports why a device does not open, and tries again at the next request', async () => {
    const answers = [
      new EngineError('no WebAssembly'),
      new RangeError('WebAssembly.Memory(): could not allocate memory'),
    ];
    const openDevice = () => {
      const error = answers.shift();
      return error ? Promise.reject(error) : here.openDevice();
    };
    const trainer = trainerWith({ ...here, openDevice });
    for (let attempt = 0; attempt < 3; attempt++) await trainer.handle({ kind: 'train', ...request });
    expect(trainer.all('failed').map(({ reason }) => reason)).toEqual([
      'no WebAssembly',
      expect.stringMatching(/^This tab did not get enough memory/),
    ]);
    expect(trainer.all('ended')).toHaveLength(1);
  });
});
