import { join } from 'node:path';
import { readResults, type DoneTrial } from '@peftjs/bench';
import { mean } from 'simple-statistics';
import { expect, it } from 'vitest';
import { doneOf, unpacking } from './published-archives.js';

/* The numbers on the page of `glue`, and those of its trials on the methods' pages. */

const unpacked = await unpacking();
const run = await unpacked('glue', 'run');
const done = doneOf(await readResults(run));

it('the archive has the ranks of GoRA and BayesLoRA that its page reports', () => {
  const ranksOf = (arm: string, modules: RegExp): number[] =>
    done
      .filter((each) => each.arm === arm)
      .flatMap(({ ranks }) => Object.entries(ranks))
      .flatMap(([path, rank]) => (modules.test(path) ? [rank] : []));
  const largest = ranksOf('gora', /pooler|layer\.5\.attention\.(self\.value|output)/);
  expect(largest).toHaveLength(3 * 4 * 6);
  expect(Math.min(...largest)).toBe(15);
  expect(mean(ranksOf('bayes-lora', /self\.(query|key)/)).toFixed(1)).toBe('0.6');
  expect(mean(ranksOf('bayes-lora', /self\.value/)).toFixed(1)).toBe('5.2');
});

/** Whether a trial gives every row the same answer. */
const isConstant = ({ rows }: DoneTrial): boolean => new Set(rows?.predicted).size === 1;

it('the archive has the runs with constant answers that its page reports', () => {
  const tuned = done.filter(({ arm }) => arm !== 'head');
  const collapsed: Record<string, number> = {};
  for (const { task, arm, budget } of tuned.filter(isConstant)) {
    const cell = `${task} ${arm} ${budget.spec}`;
    collapsed[cell] = (collapsed[cell] ?? 0) + 1;
  }
  expect(tuned).toHaveLength(19 * 4 * 6);
  expect(collapsed).toEqual({
    'cola adalora r=1': 5,
    'cola adalora r=4': 1,
    'cola alora r=4': 2,
    'cola auto auto': 3,
    'cola bayes-lora r=4': 1,
    'cola dynamic-dora r=4': 1,
    'cola ela-lora r=4': 1,
    'cola lora r=4': 1,
    'cola lora r=8': 1,
    'cola random-gates r=4': 2,
    'cola sora 118272': 2,
    'cola sora r=1': 6,
    'cola sora r=4': 2,
    'cola sora-paper r=4': 1,
    'cola truncated-lora r=4': 1,
    'mrpc ela-lora r=4': 1,
  });
});

it('the archive has the times of full fine-tuning, ALoRA and LoRA truncated once that its page reports', () => {
  const secondsOf = (arm: string): string =>
    mean(done.filter((each) => each.arm === arm).map(({ time }) => time.totalSeconds)).toFixed(0);
  expect(['full', 'alora', 'truncated-lora'].map(secondsOf)).toEqual(['162', '125', '50']);
});

it("the archive has the sizes and training times of 'auto' that its page reports, the times as multiples of LoRA's", () => {
  const of = (arm: string, spec: string, task: string): DoneTrial[] =>
    done
      .filter((each) => each.arm === arm && each.budget.spec === spec && each.task === task)
      .sort((a, b) => a.seed - b.seed);
  const reported = ['rte', 'mrpc', 'cola', 'stsb'].map((task) => {
    const lora = of('lora', 'r=8', task);
    const auto = of('auto', 'auto', task);
    const times = auto.map(({ time }, at) => time.trainSeconds / (lora[at]?.time.trainSeconds ?? NaN));
    const [least, most] = [Math.min(...times), Math.max(...times)].map((time) => time.toFixed(1));
    return `${task}: ${auto.map(({ parameters }) => parameters.stored).join(' ')}; ${least} to ${most}`;
  });
  expect(reported).toEqual([
    'rte: 6912 45696 2304 10368 2304 29568; 2.9 to 3.6',
    'mrpc: 129024 12288 10368 108288 22656 38016; 3.5 to 3.8',
    'cola: 17280 1920 20736 1920 1920 32256; 3.3 to 4.4',
    'stsb: 38400 17280 31872 22656 63744 45312; 3.5 to 4.1',
  ]);
});

it("the archive has the moved ranks and scores by lambda that L1RA's page reports", async () => {
  const tuning = async (folder: string) =>
    doneOf(await readResults(join(folder, 'tuning'))).filter(
      ({ method, task, seed, learningRate }) =>
        method === 'l1ra' && task === 'cola' && seed < 1003 && [2.5e-4, 1e-3].includes(learningRate),
    );
  const trials = [...(await tuning(run)), ...(await tuning(await unpacked('glue', 'lambda')))];
  const reported = trials.map((trial) => {
    const moved = Object.values(trial.ranks).filter((rank) => rank !== 4).length;
    const { l1raLambda } = trial.methodConfig as { readonly l1raLambda: number };
    return `${l1raLambda} ${trial.learningRate} ${trial.seed}: ${moved}, ${trial.metrics.matthewsCorrelation?.toFixed(3)}`;
  });
  expect(reported.sort()).toEqual([
    '0.001 0.00025 1001: 0, 0.112',
    '0.001 0.00025 1002: 0, 0.136',
    '0.001 0.001 1001: 2, 0.055',
    '0.001 0.001 1002: 0, 0.096',
    '0.2 0.00025 1001: 4, 0.087',
    '0.2 0.00025 1002: 4, 0.028',
    '0.2 0.001 1001: 22, 0.097',
    '0.2 0.001 1002: 19, 0.096',
    '0.5 0.00025 1001: 34, 0.000',
    '0.5 0.00025 1002: 35, 0.000',
    '0.5 0.001 1001: 36, 0.000',
    '0.5 0.001 1002: 37, 0.000',
  ]);
});

it('the archive has the constant answers of AdaLoRA with its orthogonality term that its page reports', async () => {
  const trials = doneOf(await readResults(join(await unpacked('glue', 'orthogonality'), 'tuning')));
  const constant = (of: string): boolean[] => trials.filter(({ task }) => task === of).map(isConstant);
  expect([...new Set(trials.map(({ learningRate }) => learningRate))].sort()).toEqual([0.0005, 0.001, 0.002]);
  expect(constant('cola')).toEqual(Array.from({ length: 9 }, () => true));
  expect(constant('mrpc').sort()).toEqual([false, ...Array.from({ length: 8 }, () => true)]);
});

it("the archive has the training times, compared with AdaLoRA's, that its page reports", async () => {
  const trials = doneOf(await readResults(await unpacked('glue', 'times')));
  const shares = trials
    .filter(({ arm }) => arm !== 'adalora')
    .map(({ arm, budget, task, seed, time }) => {
      const of = trials.find((each) => each.arm === 'adalora' && each.task === task && each.seed === seed);
      return `${task} ${arm} ${budget.spec} ${seed}: ${(time.trainSeconds / (of?.time.trainSeconds ?? NaN)).toFixed(2)}`;
    });
  expect(shares.sort()).toEqual([
    'cola lora r=4 1: 0.80',
    'cola lora r=4 2: 0.81',
    'cola sora 118272 1: 1.10',
    'cola sora 118272 2: 0.92',
    'cola sora r=4 1: 0.99',
    'cola sora r=4 2: 0.99',
    'mrpc lora r=4 1: 0.87',
    'mrpc lora r=4 2: 0.98',
    'mrpc sora 118272 1: 0.93',
    'mrpc sora 118272 2: 0.98',
    'mrpc sora r=4 1: 0.94',
    'mrpc sora r=4 2: 0.91',
  ]);
});
