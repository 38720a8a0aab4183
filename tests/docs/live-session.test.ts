import { describe, expect, it } from 'vitest';
import type { FromWorker, Progress } from '../../docs/live/messages.js';
import {
  after,
  countRanks,
  hasAdapter,
  isBusy,
  started,
  untrained,
  type LiveSession,
} from '../../docs/live/session.js';
import { statusOf } from '../../docs/live/status.js';

const device = { backend: 'wasm', threads: 1, notes: ['No WebGPU'] } as const;
const modules = [{ path: 'encoder.layer.0.ffn.in', layer: 0, sizes: [0.5, 0, 1] }];
const progress: Progress = { step: 1, totalSteps: 4, loss: 0.7, milliseconds: 210.4, parameters: 2048, modules };
const prediction = { text: 'good', classes: ['bad', 'good'], before: [0.4, 0.6] };

function afterMessages(...messages: readonly FromWorker[]): LiveSession {
  return messages.reduce(after, started(untrained));
}

describe('a session', () => {
  it('collects the sizes that were tried, and the chosen one', () => {
    const point = { parameters: 64, memorization: 98, generalization: null };
    const { sizes, choice } = afterMessages(
      { kind: 'size', ...point },
      { kind: 'chosen', parameters: 64, reason: 'it will do' },
    );
    expect([sizes, choice]).toEqual([[point], { parameters: 64, reason: 'it will do' }]);
  });
  it('goes from loading through a trained head to a trained adapter', () => {
    const phases: string[] = [];
    const messages: FromWorker[] = [
      { kind: 'device', device },
      { kind: 'loading', loadedBytes: 1, totalBytes: 4 },
      { kind: 'preparing', step: 1, totalSteps: 4 },
      { kind: 'frozen', scores: { accuracy: 0.8, macroF1: 0.79 }, baseParameters: 1e6 },
      { kind: 'progress', ...progress },
      { kind: 'scores', step: 1, scores: { accuracy: 0.9, macroF1: 0.89 } },
      { kind: 'ended', how: 'finished' },
    ];
    const last = messages.reduce((session, message) => {
      const next = after(session, message);
      phases.push(`${next.phase} ${isBusy(next)}`);
      return next;
    }, started(untrained));
    expect(phases).toEqual([
      'loading true',
      'loading true',
      'preparing true',
      'preparing true',
      'training true',
      'training true',
      'finished false',
    ]);
    expect(last).toMatchObject({
      device,
      frozen: { scores: { accuracy: 0.8 }, baseParameters: 1e6 },
      progress: { step: 1, parameters: 2048 },
      losses: [{ step: 1, value: 0.7 }],
      accuracies: [{ step: 1, value: 0.9 }],
      macroF1s: [{ step: 1, value: 0.89 }],
      modules,
    });
  });

  it('has an adapter after the first step, even if it was stopped', () => {
    expect(hasAdapter(afterMessages({ kind: 'ended', how: 'stopped' }))).toBe(false);
    const stopped = afterMessages({ kind: 'progress', ...progress }, { kind: 'ended', how: 'stopped' });
    expect([hasAdapter(stopped), isBusy(stopped)]).toEqual([true, false]);
  });

  it('starts a second training from scratch, on the same device', () => {
    const again = started(afterMessages({ kind: 'device', device }, { kind: 'progress', ...progress }));
    expect(again).toEqual({ ...untrained, phase: 'loading', device });
  });

  it('says why a training or a prediction failed, until the next one', () => {
    const failed = afterMessages({ kind: 'failed', reason: 'no memory' });
    expect(failed).toMatchObject({ phase: 'failed', failure: 'no memory' });
    expect(started(failed).failure).toBeUndefined();
    const refused = after(failed, { kind: 'unpredictable', text: ' ', reason: 'no token' });
    expect(refused.unpredictable).toBe('no token');
    const answered = after(refused, { kind: 'prediction', ...prediction });
    expect(answered.unpredictable).toBeUndefined();
    expect(answered.prediction).toMatchObject(prediction);
  });

  it('counts the active ranks', () => {
    expect(countRanks(modules)).toEqual({ alive: 2, all: 3 });
    expect(countRanks([])).toEqual({ alive: 0, all: 0 });
  });
});

describe('the status line', () => {
  it.each<[string, LiveSession]>([
    ['Training first downloads about 43 MB from this site (55 MB with WebGPU): the model and ONNX Runtime.', untrained],
    ['Loading: 25 %', afterMessages({ kind: 'loading', loadedBytes: 1, totalBytes: 4 })],
    ['Training a head on the frozen encoder first: 50 %', afterMessages({ kind: 'preparing', step: 2, totalSteps: 4 })],
    [
      'Step 1 of 4, 210 ms on WebAssembly, 1 thread',
      afterMessages({ kind: 'device', device }, { kind: 'progress', ...progress }),
    ],
    [
      'Finished after 4 steps. You can download the adapter.',
      afterMessages({ kind: 'progress', ...progress }, { kind: 'ended', how: 'finished' }),
    ],
    [
      'Stopped at step 1. The adapter keeps what it has learned.',
      afterMessages({ kind: 'progress', ...progress }, { kind: 'ended', how: 'stopped' }),
    ],
    ['Stopped.', afterMessages({ kind: 'ended', how: 'stopped' })],
    ['Training failed.', afterMessages({ kind: 'failed', reason: '' })],
  ])('says: %s', (line, session) => {
    expect(statusOf(session)).toBe(line);
  });
});
