import type { TrialSizing } from '../../results/schema.js';
import type { Series } from '../contents.js';
import { drawnAs } from '../palette.js';
import { colorBy, dashBy, HEIGHT, layered, quantity, WIDTH, type Chart } from './draw.js';

const MEMORIZATION: Series = { label: 'memorization', look: { hue: 1, shape: 0 } };
const GENERALIZATION: Series = { label: 'generalization', look: { hue: 2, shape: 1 } };

/** The curves of both charts. */
export const STAGE_SERIES: readonly Series[] = [MEMORIZATION, GENERALIZATION];

/** What an adapter of one size still knows. */
interface Kept<Value> {
  readonly stored: number;
  readonly memorization: Value | null;
  readonly generalization: Value | null;
}

/** A mean with its 95 % interval. */
interface Spread {
  readonly mean: number;
  readonly interval: { readonly low: number; readonly high: number } | null;
}

/**
 * Memorization and generalization, in percent of the first stage, against stored parameters, which decrease from left
 * to right.
 */
export function stageChart(title: string, stages: readonly Kept<Spread>[]): Chart {
  const points = pointsOf(stages).map(({ series, stored, value: { mean, interval } }) => ({
    ...{ series, stored, mean, low: interval?.low ?? mean, high: interval?.high ?? mean },
  }));
  const x = { domain: [0, 1.03 * Math.max(1, ...stages.map(({ stored }) => stored))] };
  // A range that holds all curves, and is wide enough that noise does not look like a drop.
  const low = Math.min(90, ...points.map((point) => point.low));
  const high = Math.max(102, ...points.map((point) => point.high));
  const room = 0.04 * (high - low);
  const y = { domain: [low - room, high + room], nice: false };
  const color = colorBy(STAGE_SERIES);
  return chartOf(`: ${title}`, { of: 'the first stage', x, y: { scale: y } }, points, [
    {
      data: { values: [{ mean: 100 }] }, // the first stage
      mark: { type: 'rule', color: 'var(--soft)', strokeDash: [3, 3] },
      encoding: { y: quantity('mean'), x: { value: 0 }, x2: { value: 'width' } },
    },
    { mark: { type: 'area', opacity: 0.16 }, encoding: { y: quantity('low'), y2: { field: 'high' }, color } },
    {
      mark: { type: 'line', strokeWidth: 2, strokeJoin: 'round' },
      encoding: { y: quantity('mean'), color, strokeDash: dashBy(STAGE_SERIES) },
    },
    ...STAGE_SERIES.map((series) => ({ ...pointLayer(series, 46), encoding: { y: quantity('mean') } })),
  ]);
}

/** The same in percent of the dense adapter, with a line for each trial that chose its size, and a ring at its choice. */
export function sizingChart(
  title: string,
  trials: readonly { readonly seed: number; readonly sizing: TrialSizing }[],
): Chart {
  const points = trials.flatMap(({ seed, sizing: { stages, chosen } }) =>
    stages.flatMap((stage) =>
      pointsOf([{ ...stage, stored: stage.storedParameters }])
        .filter(({ stored, value }) => stored > 0 && Number.isFinite(value))
        .map((point) => ({ ...point, seed: `${point.series} ${seed}`, chosen: stage.stage === chosen })),
    ),
  );
  const sizes = points.map(({ stored }) => stored);
  const x = { type: 'log', domain: [0.9 * Math.min(...sizes), 1.1 * Math.max(...sizes)] };
  const layers = STAGE_SERIES.flatMap((series) => {
    const own = { filter: { field: 'series', equal: series.label } };
    const { color } = drawnAs(series.look);
    const ring = { type: 'point', filled: false, opacity: 1, size: 190, strokeWidth: 2, color, shape: 'circle' };
    return [
      { transform: [own], mark: { type: 'line', color, strokeWidth: 1.6 }, encoding: { detail: { field: 'seed' } } },
      pointLayer(series, 40),
      { transform: [own, { filter: { field: 'chosen', equal: true } }], mark: ring },
    ];
  });
  const y = { field: 'value', scale: { zero: false } };
  return chartOf(`, and the chosen size: ${title}`, { of: 'the dense adapter', x, y }, points, layers);
}

/** A point of each curve for every size with a value. */
function pointsOf<Value>(sizes: readonly Kept<Value>[]): { series: string; stored: number; value: Value }[] {
  return sizes.flatMap(({ stored, memorization, generalization }) => [
    ...(memorization === null ? [] : [{ series: MEMORIZATION.label, stored, value: memorization }]),
    ...(generalization === null ? [] : [{ series: GENERALIZATION.label, stored, value: generalization }]),
  ]);
}

function pointLayer({ label, look }: Series, size: number): object {
  const { color, outline } = drawnAs(look);
  return {
    transform: [{ filter: { field: 'series', equal: label } }],
    mark: { type: 'point', filled: true, opacity: 1, size, color, shape: outline },
  };
}

function chartOf(
  end: string,
  { of, x, y }: { readonly of: string; readonly x: object; readonly y: object },
  values: readonly object[],
  layers: readonly object[],
): Chart {
  const encoding = {
    x: quantity('stored', {
      title: 'stored parameters',
      scale: { ...x, reverse: true, nice: false },
      axis: { format: '.3~s', tickCount: 6 },
    }),
    y: { type: 'quantitative', title: `% of ${of}`, ...y },
  };
  return {
    description: `Memorization and generalization in percent of ${of} against stored parameters${end}`,
    spec: layered({ width: WIDTH, height: HEIGHT }, encoding, layers, { values }),
  };
}
