import { stripVTControlCharacters } from 'node:util';
import stringWidth from 'string-width';
import { describe, expect, it } from 'vitest';
import { kept } from '../../test/streams.js';
import {
  advance,
  initialProgress,
  openProgress,
  plainDisplay,
  planSecondsLeft,
  renderOutcome,
  renderProgress,
  type ProgressEvent,
  type ProgressState,
  type StepEvent,
} from './progress.js';

const label = { arm: 'sora', task: 'uci-sentiment', seed: 1, budget: 'r=4' };
const plain = { columns: 160, color: false };

function step(id: string, at: number, more: Partial<StepEvent> = {}): StepEvent {
  const progress = { step: at, totalSteps: 100, epoch: at / 50, epochs: 2, loss: 0.4321, storedParameters: 1000 };
  return { type: 'step', id, ...progress, ...more };
}

/** The state after events at the given seconds. */
function after(total: number, events: readonly (readonly [seconds: number, event: ProgressEvent])[]): ProgressState {
  return events.reduce((state, [seconds, event]) => advance(state, event, 1000 * seconds), initialProgress(total, 0));
}

const halfway = after(4, [
  [0, { type: 'trial-skipped', id: 'z' }],
  [0, { type: 'trial-start', id: 'a', label }],
  [1, { type: 'trial-start', id: 'b', label: { ...label, arm: 'adalora', seed: 12 } }],
  [5, step('a', 1, { metric: { name: 'accuracy', value: 0.91234 } })],
  [15, step('a', 51, { storedParameters: 57_344 })],
]);

describe('renderProgress', () => {
  it('shows the details of each trial and of the plan', () => {
    const [trial, preparing, plan] = renderProgress(halfway, plain);
    expect(trial).toContain('sora r=4 uci-sentiment seed 1');
    for (const part of ['51 %', 'epoch 2/2', 'loss 0.432', 'accuracy 0.912', '57.3k params'])
      expect(trial).toContain(part);
    // 50 steps took 10 s after the first reported one: 49 more take 9.8 s.
    expect(trial).toContain('0:10 left');
    expect(preparing).toContain('preparing');
    for (const part of ['all trials', '37 %', '1/4 done (1 earlier)', '0:15 elapsed']) expect(plan).toContain(part);
  });

  it('shows the stage of a trial in stages', () => {
    const staged = advance(halfway, step('a', 60, { stage: { stage: 1, stages: 8 } }), 16_000);
    expect(renderProgress(staged, plain)[0]).toContain('stage 2/8  epoch 2/2');
    expect(renderProgress(halfway, plain)[0]).not.toContain('stage');
  });

  it('shows how far an evaluation is and its own remaining time, then the steps again', () => {
    const rows = (at: number) => step('a', 60, { evaluating: { rows: at, totalRows: 1000 } });
    const begun = advance(halfway, rows(100), 20_000);
    expect(renderProgress(begun, plain)[0]).toContain('10 %  evaluating 100 of 1,000 rows  epoch 2/2');
    const further = advance(begun, rows(300), 24_000); // 50 rows a second
    expect(renderProgress(further, plain)[0]).toMatch(/30 % {2}evaluating 300 of 1,000 rows .* 0:14 left$/);
    const again = advance(further, rows(100), 30_000);
    expect(renderProgress(again, plain)[0]).not.toContain('left');
    expect(renderProgress(advance(again, step('a', 61), 31_000), plain)[0]).toMatch(/61 % {2}epoch 2\/2 .* left$/);
  });

  it('keeps the metric of the last evaluation between evaluations', () => {
    const later = advance(halfway, step('a', 60), 16_000);
    expect(renderProgress(later, plain)[0]).toContain('accuracy 0.912');
  });

  it('is never wider than the terminal, whatever the names', () => {
    const wide = after(2, [
      [0, { type: 'trial-start', id: 'a', label: { ...label, task: '感情分析データ👩‍👩‍👧の長い名前' } }],
      [4, step('a', 1, { metric: { name: '精度', value: 0.9 }, storedParameters: 123_456_789 })],
      [9, step('a', 40)],
    ]);
    for (const state of [halfway, wide]) {
      for (let columns = 1; columns < 170; columns++) {
        for (const color of [false, true]) {
          for (const line of renderProgress(state, { columns, color })) {
            expect(stringWidth(stripVTControlCharacters(line))).toBeLessThanOrEqual(columns);
          }
        }
      }
    }
  });

  it('drops the least important parts first', () => {
    const narrow = renderProgress(halfway, { columns: 60, color: false })[0];
    expect(narrow).toContain('accuracy 0.912');
    expect(narrow).toContain('left');
    expect(narrow).not.toContain('params');
  });

  it('colours only when asked', () => {
    expect(renderProgress(halfway, plain).join('')).not.toContain('\u001b');
    const colored = renderProgress(halfway, { ...plain, color: true });
    expect(colored.join('')).toContain('\u001b[');
    expect(colored.map(stripVTControlCharacters)).toEqual(renderProgress(halfway, plain));
  });

  it('removes control characters', () => {
    const hostile = after(1, [
      [0, { type: 'trial-start', id: 'a', label: { ...label, task: 'a\u001b[2Jb\u202ec\nd' } }],
    ]);
    const [trial] = renderProgress(hostile, plain);
    expect(trial).toContain('a [2Jb c d');
  });
});

describe('renderOutcome', () => {
  it('shows how a trial ended', () => {
    expect(
      renderOutcome({ type: 'trial-done', id: 'a', metrics: { accuracy: 0.9, f1: 0.8 }, seconds: 61 }, label, plain),
    ).toBe('✓  sora r=4 uci-sentiment seed 1  accuracy 0.900  f1 0.800  1:01 min');
    expect(renderOutcome({ type: 'trial-failed', id: 'a', message: 'loss is\nNaN' }, label, plain)).toContain(
      'loss is NaN',
    );
    expect(renderOutcome({ type: 'trial-skipped', id: 'a-1' }, undefined, plain)).toContain('a-1  already done');
    expect(renderOutcome(step('a', 1), label, plain)).toBeUndefined();
  });

  it('cuts a long message at the edge', () => {
    const line = renderOutcome({ type: 'trial-failed', id: 'a', message: 'x'.repeat(300) }, label, {
      columns: 50,
      color: true,
    });
    expect(stringWidth(String(line))).toBe(50);
  });
});

describe('planSecondsLeft', () => {
  it('is undefined in the first seconds', () => {
    expect(
      planSecondsLeft(
        after(2, [
          [0, { type: 'trial-start', id: 'a', label }],
          [1, step('a', 50)],
        ]),
      ),
    ).toBeUndefined();
  });

  it('assumes that pending trials are as long as finished ones', () => {
    const one = after(3, [
      [0, { type: 'trial-start', id: 'a', label }],
      [10, step('a', 100)],
      [10, { type: 'trial-done', id: 'a', metrics: {}, seconds: 10 }],
    ]);
    expect(planSecondsLeft(one)).toBeCloseTo(20, 6);
    const two = advance(advance(one, { type: 'trial-start', id: 'b', label }, 10_000), step('b', 50), 15_000);
    expect(planSecondsLeft(two)).toBeCloseTo(15, 6);
  });

  it('does not count steps from before a checkpoint', () => {
    const resumed = { resumedFrom: 90 };
    const state = after(3, [
      [0, { type: 'trial-start', id: 'a', label }],
      [10, step('a', 100, resumed)],
      [10, { type: 'trial-done', id: 'a', metrics: {}, seconds: 10 }],
      [10, { type: 'trial-start', id: 'b', label }],
      [15, step('b', 95, resumed)],
    ]);
    expect(planSecondsLeft(state)).toBeCloseTo(105, 6); // 5 steps of b, 100 of the last one, a second each
  });

  it('does not count skipped or failed trials', () => {
    const state = after(3, [
      [0, { type: 'trial-skipped', id: 'x' }],
      [0, { type: 'trial-start', id: 'a', label }],
      [5, step('a', 50)],
      [5, { type: 'trial-failed', id: 'a', message: '' }],
      [5, { type: 'trial-start', id: 'b', label }],
      [10, step('b', 50)],
    ]);
    expect(planSecondsLeft(state)).toBeCloseTo(5, 6);
  });
});

describe('plainDisplay', () => {
  it('writes a line per event, but only few for steps, and one at the end', () => {
    const lines: string[] = [];
    let seconds = 0;
    const display = plainDisplay(2, { write: (text) => lines.push(String(text)) > 0 }, () => 1000 * seconds);
    display.emit({ type: 'trial-start', id: 'a', label });
    display.emit({ type: 'compiling', id: 'a', seconds: 4.6 });
    for (seconds = 1; seconds <= 25; seconds++) display.emit(step('a', seconds));
    display.emit({ type: 'trial-done', id: 'a', metrics: { accuracy: 0.9 }, seconds: 25 });
    display.close();
    expect(lines.every((line) => line.endsWith('\n') && !line.includes('\u001b'))).toBe(true);
    expect(lines.map((line) => line.trim().split('  ').at(1))).toEqual([
      'preparing',
      'compiling the training step, about 5 s',
      'step 10 of 100',
      'step 20 of 100',
      'sora r=4 uci-sentiment seed 1',
      expect.any(String),
    ]);
    expect(lines.at(-1)).toContain('1/2 done');
  });

  it('numbers trials in the order in which they begin', () => {
    const lines: string[] = [];
    const display = plainDisplay(3, { write: (text) => lines.push(String(text)) > 0 });
    display.emit({ type: 'trial-skipped', id: 'a' });
    display.emit({ type: 'trial-start', id: 'b', label });
    display.emit({ type: 'trial-start', id: 'c', label });
    expect(lines.slice(1).map((line) => line.split('  ')[0])).toEqual([
      'trial 2 of 3 · sora r=4 uci-sentiment seed 1',
      'trial 3 of 3 · sora r=4 uci-sentiment seed 1',
    ]);
  });
});

describe('openProgress', () => {
  it('redraws on a terminal, and keeps finished trials above', () => {
    const { stream, text } = kept(true, 60);
    const display = openProgress(2, stream);
    display.emit({ type: 'trial-start', id: 'a', label });
    display.emit({ type: 'trial-done', id: 'a', metrics: { accuracy: 0.9 }, seconds: 25 });
    display.close();
    const written = text();
    expect(written).toContain('✓  sora r=4 uci-sentiment seed 1  accuracy 0.900');
    expect(written).toContain('1/2 done');
    expect(written.indexOf('✓')).toBeLessThan(written.lastIndexOf('1/2 done'));
  });
});
