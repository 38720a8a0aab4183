import { describe, expect, it } from 'vitest';
import { toyEvaluationData } from '@peftjs/conformance';
import { pairedError } from './sizing.js';
import { nextStage, reasonOf, type SizingStage } from './size-stages.js';

/** The number of parameters of one rank. */
const UNIT = 10;

const stage = (kind: SizingStage['kind'], ranks: number, held: boolean, score = 0.9): SizingStage => ({
  stage: 0,
  kind,
  budget: kind === 'descent' || kind === 'search' ? UNIT * ranks : null,
  storedParameters: UNIT * ranks,
  meanParameters: UNIT * ranks,
  ranks: { query: ranks },
  score,
  trainScore: null,
  worse: 0.9 - score,
  allowed: 0.02,
  held,
  memorization: null,
  generalization: null,
});

/** The kinds and ranks of all stages of a run in which adapters of at least `enough` ranks do not lose. */
const course = (enough: number, { ranks, margin = null }: { ranks: number; margin?: number | null }) => {
  const stages: SizingStage[] = [];
  for (let next = nextStage(stages, { unit: UNIT, margin }); next; next = nextStage(stages, { unit: UNIT, margin })) {
    const smallest = Math.min(...stages.filter(({ held }) => held).map(({ storedParameters }) => storedParameters));
    const held = stages.length === 0 ? ranks : smallest / UNIT;
    const now = next.budget === null ? held : Math.floor(next.budget / UNIT);
    stages.push(stage(next.kind, now, next.kind !== 'tuning' && now >= enough));
  }
  return stages.map(({ kind, storedParameters }) => `${kind} ${storedParameters / UNIT}`);
};

describe('the stages', () => {
  it('shrink to a quarter each until two in a row have lost, then search between the smallest good size and the next', () => {
    expect(course(20, { ranks: 64 })).toEqual([
      'dense 64',
      'control 64',
      'descent 16',
      'descent 4',
      'search 32',
      'search 22',
      'search 18',
      'search 19',
      'tuning 22',
    ]);
  });
  it('end at one rank where nothing loses, and need no control with a margin', () => {
    expect(course(0, { ranks: 20, margin: 0.01 })).toEqual(['dense 20', 'descent 5', 'descent 1', 'tuning 1']);
  });
  it('end with the dense adapter where everything else loses', () => {
    expect(course(8, { ranks: 8 })).toEqual(['dense 8', 'control 8', 'descent 2', 'descent 1', 'search 4', 'search 5', 'search 6', 'search 7']); // oxfmt-ignore
  });
  it.each([1, 2, 3, 5, 7, 11, 13])('find %i of 16 ranks', (enough) => {
    expect(course(enough, { ranks: 16 }).at(-1)).toBe(`tuning ${enough}`);
  });
});

it('the error of a difference is its standard error over rows', () => {
  const { scoreRows, primaryMetric, ...data } = toyEvaluationData(1, 8);
  const [right = [], wrong = []] = [[5, 20], [9, 30]].map(([from, to]) => Array.from({ length: 64 }, (_, row) => Number(row >= (from ?? 0) && row < (to ?? 0)))); // oxfmt-ignore
  const actual = Array.from({ length: 64 }, () => 1);
  const scored = {
    ...data,
    primaryMetric,
    scoreRows: ({ predicted }: { predicted: readonly unknown[] }, rows: readonly number[]) => ({
      accuracy: rows.filter((row) => predicted[row] === 1).length / rows.length,
    }),
  };
  const differences = right.map((value, row) => value - (wrong[row] ?? 0));
  const mean = differences.reduce((sum, value) => sum + value, 0) / 64;
  const closedForm = Math.sqrt(differences.reduce((sum, value) => sum + (value - mean) ** 2, 0)) / 64;
  const found = pairedError(scored, { predicted: right, actual }, { predicted: wrong, actual });
  expect(Math.abs(found / closedForm - 1)).toBeLessThan(0.1);
  expect(pairedError(scored, { predicted: right, actual }, { predicted: right, actual })).toBe(0);
});

describe('the reason', () => {
  const explained = (
    stages: SizingStage[],
    chosen: number,
    { margin = null, bare = 0.4 }: { margin?: number | null; bare?: number } = {},
  ): string =>
    reasonOf(stages, chosen, { metric: 'accuracy', margin, bare: { score: 0.9 - bare, worse: bare, allowed: 0.04 } });
  const dense = stage('dense', 120, true);
  it('names what was kept, what it is compared with, and what was too small', () => {
    expect(explained([dense, stage('descent', 30, true, 0.89), stage('descent', 7, false, 0.8)], 1)).toBe(
      "With 300 parameters accuracy is 0.89: 0.01 worse than the dense adapter's 0.9 with 1,200 parameters, within the error of the difference (0.02). With 70 it is 0.8, more than the error of the difference (0.02) worse.",
    );
  });
  it('says that an adapter learns nothing where ranks are not needed', () => {
    expect(explained([dense, stage('descent', 1, true, 0.9)], 1, { bare: 0.03 })).toMatch(
      /no worse .* Without any rank it is 0.87, .* teach an adapter next to nothing/,
    );
    expect(explained([dense, stage('descent', 1, true, 0.9)], 1)).toMatch(/No smaller one exists\.$/);
  });
  it('says that nothing smaller will do, or that there is nothing smaller', () => {
    expect(explained([stage('dense', 1, true)], 0)).toBe('The dense adapter stays: no smaller one exists.');
    expect(explained([dense, stage('descent', 30, false, 0.5)], 0, { margin: 0.01 })).toMatch(
      /^The dense adapter stays: .* with 300 parameters accuracy is 0.5, more than the margin of 0.01 worse\.$/,
    );
  });
});
