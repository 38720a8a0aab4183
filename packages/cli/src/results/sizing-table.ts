import { formatCount, formatMetric, formatSigned, printable, textTable } from '../format.js';
import type { TrialSizing } from './schema.js';

type SizedStage = TrialSizing['stages'][number];

/** The stages of a trial that chose its size, from large to small, with the chosen one marked, as texts. */
export function sizingTable({ stages, chosen }: TrialSizing): {
  readonly titles: readonly string[];
  readonly rows: readonly (readonly string[])[];
} {
  const unlessDense = ({ kind }: SizedStage, text: string): string => (kind === 'dense' ? '–' : text);
  const percent = (value: number | null): string => value?.toFixed(1) ?? '–';
  const columns: Readonly<Record<string, (stage: SizedStage) => string>> = {
    stage: ({ kind }) => kind,
    stored: ({ storedParameters }) => formatCount(storedParameters),
    ranks: ({ ranks }) => formatCount(Object.values(ranks).reduce((a, b) => a + b, 0)),
    score: ({ score }) => formatMetric(score),
    'worse by': (stage) => unlessDense(stage, formatSigned(stage.worse)),
    'may be': (stage) => unlessDense(stage, formatMetric(stage.allowed)),
    'memorization, %': ({ memorization }) => percent(memorization),
    'generalization, %': ({ generalization }) => percent(generalization),
    '': ({ stage }) => (stage === chosen ? 'chosen' : ''),
  };
  const ordered = [...stages].sort((a, b) => b.storedParameters - a.storedParameters || a.stage - b.stage);
  return {
    titles: Object.keys(columns),
    rows: ordered.map((stage) => Object.values(columns).map((text) => text(stage))),
  };
}

/** The same for a terminal, with the reason of the choice. */
export function sizingText(sizing: TrialSizing): string {
  const { titles, rows } = sizingTable(sizing);
  const numbers = [...titles.keys()].slice(1, -1);
  return `${textTable(titles, rows, numbers)}${printable(sizing.reason)}\n`;
}
