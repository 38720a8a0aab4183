import type { CaseResult } from '../perf/measure.js';
import type { Peak } from '../perf/peak.js';
import { peakText } from '../perf/peak-text.js';
import { markdownTable } from './page.js';

/** What `npm run perf -- --json` prints. */
export interface PerfResults {
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryBytes: number;
    readonly node: string;
  };
  readonly peak: Peak;
  readonly cases: readonly CaseResult[];
}

/** Every case of `npm run perf`, and the machine. */
export function caseTables({ machine, peak, cases }: PerfResults): string {
  const rows = cases.map((one) => [
    one.name,
    one.shape,
    `${one.stepMedianMs.toFixed(0)} ms`,
    `${(100 * one.efficiency).toFixed(0)} %`,
    one.tokensPerSecond.toFixed(0),
    `${(one.peakRssBytes / 1e9).toFixed(2)} GB`,
    `${one.loadSeconds.toFixed(1)} s`,
    `${one.compileSeconds.toFixed(1)} s`,
    `${((1000 * one.firstStepSeconds) / one.stepMedianMs).toFixed(1)} steps`,
  ]);
  const head = ['case', 'batch', 'step', 'of the peak', 'tokens/s', 'peak memory', 'load', 'compile', 'first step'];
  const { cpu, cores, memoryBytes, node } = machine;
  const state = `Processor: ${cpu}, ${cores} cores, ${(memoryBytes / 2 ** 30).toFixed(0)} GiB; peak of a product: ${peakText(peak)}. Node ${node}.`;
  return [markdownTable(head, rows), state].join('\n\n');
}
