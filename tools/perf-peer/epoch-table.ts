import { median } from 'simple-statistics';
import { markdownTable } from './page.js';
import { EPOCH_SIDES, EPOCH_TASKS, type EpochResults, type EpochRun, type EpochSide } from './results.js';
import { SIDE_NAMES, spread } from './step-tables.js';

const TASKS = { cola: 'CoLA', sst2: 'SST-2, first 10,000 rows' } as const;

/** Every task's epochs, side by side. */
export function epochTable({ rounds }: EpochResults): string {
  const rows = EPOCH_TASKS.flatMap((task) => {
    const own = rounds.filter((round) => round.task === task);
    const of = (side: EpochSide, value: (run: EpochRun) => number): number[] =>
      own.map(({ runs }) => value(runs[side]));
    return EPOCH_SIDES.map((side) => {
      const seconds = of(side, ({ epochSeconds }) => epochSeconds);
      const peer = of('torch-fp32', ({ epochSeconds }) => epochSeconds);
      return [
        `${TASKS[task]}: ${SIDE_NAMES[side]}`,
        `${median(seconds).toFixed(1)} s`,
        side === 'torch-fp32' ? '1' : spread(peer.map((other, round) => other / (seconds[round] as number))),
        `${(100 * median(of(side, ({ paddingShare }) => paddingShare))).toFixed(0)} %`,
        `${(median(of(side, ({ peakRssBytes }) => peakRssBytes)) / 1e9).toFixed(2)} GB`,
        `${median(of(side, ({ steps }) => steps))}`,
      ];
    });
  });
  return markdownTable(['', 'epoch', 'times faster than PyTorch', 'padding', 'peak memory', 'steps'], rows);
}
