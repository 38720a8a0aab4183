import { describe, expect, it } from 'vitest';
import { ConfigError, parseOptions } from '@peftjs/core/method';
import { presetNamed } from './presets.js';
import { epochsBefore, stagesSchema, type Stages } from './stages.js';
import { composeStudy } from './study.js';

const parsed = (stages: unknown): Stages => parseOptions('study', { stages: stagesSchema }, { stages }).stages;

describe('the stages of an arm', () => {
  it('accept a list of levels and fill in defaults', () => {
    expect(parsed({ levels: [0, 0.5, 1] })).toEqual({
      levels: [0, 0.5, 1],
      epochs: null,
      stageEpochs: 15,
      memorizationRows: 1000,
    });
  });

  it('accept levels by their spacing', () => {
    expect(parsed({ levels: { kind: 'linear', from: 0, to: 6, stages: 4 } }).levels).toEqual([0, 2, 4, 6]);
  });

  it.each<[string, object, string]>([
    ['no levels', { levels: [] }, 'stages.levels'],
    ['a negative level', { levels: [0, -1] }, 'stages.levels.1'],
    ['a word', { levels: 'many' }, 'stages.levels'],
    ['an unknown spacing', { levels: { kind: 'cubic', from: 0, to: 1, stages: 2 } }, 'stages.levels.kind'],
    ['no stage', { levels: { kind: 'linear', from: 0, to: 1, stages: 0 } }, 'stages.levels.stages'],
    ['a zero with geometric spacing', { levels: { kind: 'exp_linear', from: 0, to: 1, stages: 3 } }, 'stages.levels'],
    ['half an epoch', { levels: [0], stageEpochs: 0.5 }, 'stages.stageEpochs'],
    ['no memorization rows', { levels: [0], memorizationRows: 0 }, 'stages.memorizationRows'],
    ['an unknown field', { levels: [0], epoch: 3 }, 'stages.epoch'],
    ['nothing', {}, 'stages.levels'],
  ])('refuse %s, by name', (_, stages, path) => {
    expect(() => parsed(stages)).toThrow(ConfigError);
    expect(() => parsed(stages)).toThrow(expect.objectContaining({ path }));
  });
});

it("the preset 'sparsity' raises the level from zero in every arm", () => {
  const { methods } = composeStudy([presetNamed('sparsity').study]);
  const schedules = Object.values(methods).map(({ stages }) => stages?.levels ?? []);
  expect(schedules).toHaveLength(2);
  for (const levels of schedules) {
    expect(levels[0]).toBe(0);
    expect(levels.length).toBeGreaterThanOrEqual(7);
    expect([...levels].sort((a, b) => a - b)).toEqual(levels);
  }
});

it('epochsBefore adds the epochs of the first and the later stages', () => {
  const stages = parsed({ levels: [0, 1, 2], stageEpochs: 2 });
  expect([0, 1, 2, 3].map((stage) => epochsBefore(stage, stages, 5))).toEqual([0, 5, 7, 9]);
  expect(epochsBefore(3, { ...stages, epochs: 1 }, 5)).toBe(5);
});
