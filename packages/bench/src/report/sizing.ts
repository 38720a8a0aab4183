import type { DoneTrial, TrialSizing } from '../results/schema.js';
import { HEIGHT, legend, renderChart, WIDTH, type Chart } from './charts/draw.js';
import { bySeries, type Panel, type Series } from './contents.js';
import { formatCount, formatMetric, formatSigned, printable, textTable } from './format.js';
import { html, name, type Markup } from './html.js';
import { drawnAs } from './palette.js';
import { GENERALIZATION, MEMORIZATION } from './stages.js';

/** The curves of the chart. */
const SERIES: readonly Series[] = [MEMORIZATION, GENERALIZATION];

/** The indices of the columns with numbers. */
const NUMBERS = [1, 2, 3, 4, 5, 6, 7];

/** The stages of a trial that chose its size, from large to small, with the chosen one marked. */
export function sizingTable({ stages, chosen }: TrialSizing): { readonly titles: string[]; readonly rows: string[][] } {
  const ordered = [...stages].sort((a, b) => b.storedParameters - a.storedParameters || a.stage - b.stage);
  return {
    titles: ['stage', 'stored', 'ranks', 'score', 'worse by', 'may be', 'memorization, %', 'generalization, %', ''],
    rows: ordered.map((stage) => [
      stage.kind,
      formatCount(stage.storedParameters),
      formatCount(Object.values(stage.ranks).reduce((sum, rank) => sum + rank, 0)),
      formatMetric(stage.score),
      stage.kind === 'dense' ? '–' : formatSigned(stage.worse),
      stage.kind === 'dense' ? '–' : formatMetric(stage.allowed),
      percent(stage.memorization),
      percent(stage.generalization),
      stage.stage === chosen ? 'chosen' : '',
    ]),
  };
}

/** The same for a terminal, with the reason of the choice. */
export function sizingText(sizing: TrialSizing): string {
  const { titles, rows } = sizingTable(sizing);
  return `${textTable(titles, rows, NUMBERS)}${printable(sizing.reason)}\n`;
}

function percent(value: number | null): string {
  return value === null ? '–' : value.toFixed(1);
}

/** The arms with trials that chose their size. */
export function sizedArms(panel: Panel): { readonly label: string; readonly trials: readonly SizedTrial[] }[] {
  return bySeries(panel.entries).flatMap(({ row, trials }) => {
    const sized = trials.filter((trial): trial is SizedTrial => trial.sizing !== undefined);
    return sized.length === 0 ? [] : [{ label: row.label, trials: sized }];
  });
}

/** A trial that chose its size. */
type SizedTrial = DoneTrial & { readonly sizing: TrialSizing };

/** Figures of every arm that chose its size: memorization and generalization as it shrank, and its choice. */
export function sizingFigures(panel: Panel): Promise<Markup[]> {
  return Promise.all(sizedArms(panel).map(({ label, trials }) => sizingFigure(panel, label, trials)));
}

async function sizingFigure(panel: Panel, label: string, trials: readonly SizedTrial[]): Promise<Markup> {
  return html`<figure class="wide">
    <figcaption>
      <strong>The size that ${name(label)} chose</strong>
      <span
        >What it still knows of training rows and of the selection rows as it shrinks, in percent of the dense adapter,
        a line for each seed. The chosen stage is ringed.</span
      >
    </figcaption>
    <div class="beside">
      <div>${legend(SERIES)}${await renderChart(sizingChart(`${label} on ${panel.title}`, trials))}</div>
      <ul>
        ${trials.map(({ seed, sizing }) => html`<li>Seed ${String(seed)}: ${name(sizing.reason)}</li>`)}
      </ul>
    </div>
  </figure>`;
}

/** Memorization and generalization against stored parameters, which decrease from left to right on a log scale. */
function sizingChart(title: string, trials: readonly SizedTrial[]): Chart {
  const points = trials.flatMap(({ seed, sizing: { stages, chosen } }) =>
    stages.flatMap(({ stage, storedParameters: stored, memorization, generalization }) =>
      [
        { series: MEMORIZATION.label, value: memorization },
        { series: GENERALIZATION.label, value: generalization },
      ].flatMap(({ series, value }) =>
        value !== null && Number.isFinite(value) && stored > 0
          ? [{ series, seed: `${series} ${seed}`, stored, value, chosen: stage === chosen }]
          : [],
      ),
    ),
  );
  const sizes = points.map(({ stored }) => stored);
  return {
    description: `Memorization and generalization in percent of the dense adapter against stored parameters, and the chosen size: ${title}`,
    spec: {
      width: WIDTH,
      height: HEIGHT,
      autosize: { type: 'fit', contains: 'padding' },
      data: { values: points },
      encoding: {
        x: {
          field: 'stored',
          type: 'quantitative',
          title: 'stored parameters',
          scale: {
            type: 'log',
            domain: [0.9 * Math.min(...sizes), 1.1 * Math.max(...sizes)],
            reverse: true,
            nice: false,
          },
          axis: { format: '.3~s', tickCount: 6 },
        },
        y: { field: 'value', type: 'quantitative', title: '% of the dense adapter', scale: { zero: false } },
      },
      layer: SERIES.flatMap(seriesLayers),
    } as Chart['spec'],
  };
}

function seriesLayers(series: Series): object[] {
  const { color, outline } = drawnAs(series.look);
  const own = { filter: { field: 'series', equal: series.label } };
  return [
    { transform: [own], mark: { type: 'line', color, strokeWidth: 1.6 }, encoding: { detail: { field: 'seed' } } },
    { transform: [own], mark: { type: 'point', filled: true, opacity: 1, size: 40, color, shape: outline } },
    {
      transform: [own, { filter: { field: 'chosen', equal: true } }],
      mark: { type: 'point', filled: false, opacity: 1, size: 190, strokeWidth: 2, color, shape: 'circle' },
    },
  ];
}
